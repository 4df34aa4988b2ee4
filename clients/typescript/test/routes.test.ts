/** Ways to a server: a failover by Sentinels, and TLS. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Locks } from "../src/index.js";
import { Server, eventually, freePort } from "./support.js";

const MASTER = "locks";
const folder = mkdtempSync(join(tmpdir(), "redis-lock-ts-routes-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Somebody holds it and somebody waits while `change` happens, and for longer than the lease. */
async function survive(locks: Locks, name: string, server: Server, lease: number, change: () => Promise<Server>): Promise<void> {
  const held = await locks.acquire(name, { lease, replicas: lease > 5_000 ? 1 : 0 });
  const waiting = locks.acquire(name, { wait: 60_000, lease });
  await server.becomes(name, { held: 1, waiting: 1 });
  const now = await change();
  const end = performance.now() + 1.5 * lease;
  while (performance.now() < end) {
    assert(held.held);
    await sleep(50);
  }
  await now.becomes(name, { held: 1, waiting: 1 });
  assert(await held.release());
  const later = await waiting;
  assert(later && later.fence > held.fence);
  assert(await later.release());
  await now.becomes(name, { held: 0, waiting: 0 });
}

test("ioredis: a failover by Sentinels takes hold and waiter along", async (context) => {
  const [master, replica] = await Promise.all([Server.start(), Server.start()]);
  const port = await freePort();
  const file = join(folder, "sentinel.conf");
  writeFileSync(
    file,
    `port ${port}\nbind 127.0.0.1\ndir ${folder}\nsentinel monitor ${MASTER} 127.0.0.1 ${master.port} 1\n` +
      `sentinel down-after-milliseconds ${MASTER} 60000\nsentinel failover-timeout ${MASTER} 10000\n`,
  );
  await replica.call("REPLICAOF", "127.0.0.1", master.port);
  const up = async (): Promise<boolean> => (await replica.direct.info("replication")).includes("master_link_status:up");
  assert(await eventually(up, 20_000));
  const program = spawn(process.env.REDIS_SERVER || "redis-server", [file, "--sentinel"], { stdio: "ignore" });
  const sentinel = new Redis({ port, host: "127.0.0.1", maxRetriesPerRequest: 0 });
  sentinel.on("error", () => {});
  const client = new Redis({ sentinels: [{ host: "127.0.0.1", port }], name: MASTER });
  client.on("error", () => {});
  const locks = new Locks(client, { timeout: 1_000 });
  try {
    const known = (): Promise<boolean> =>
      sentinel.call("SENTINEL", "REPLICAS", MASTER).then((all) => (all as unknown[]).length === 1, () => false);
    if (!(await eventually(() => program.exitCode !== null || known(), 30_000)) || program.exitCode !== null) {
      return context.skip("this server does not run as a Sentinel");
    }
    // With less a master that is none any more confirms what nobody else knows of.
    await survive(locks, MASTER, master, 12_000, async () => {
      assert.equal(await master.call("WAIT", 1, 5_000), 1);
      // It may not have looked at the replica yet.
      assert(await eventually(() => sentinel.call("SENTINEL", "FAILOVER", MASTER).then(() => true, () => false), 30_000));
      assert(await eventually(async () => (await replica.direct.info("replication")).includes("role:master"), 30_000));
      // As the Sentinel does some ten seconds later. Until then there are two masters.
      await master.call("REPLICAOF", "127.0.0.1", replica.port);
      return replica;
    });
  } finally {
    await locks.close();
    client.disconnect();
    sentinel.disconnect();
    program.kill("SIGKILL");
    master.stop();
    replica.stop();
  }
});

describe("TLS", () => {
  for (const library of ["node-redis", "ioredis"]) {
    test(library, async (context) => {
      const [key, certificate] = [join(folder, "key"), join(folder, "certificate")];
      try {
        execFileSync("openssl", [
          ..."req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1".split(" "),
          ...["-keyout", key, "-out", certificate],
        ], { stdio: "ignore" });
      } catch {
        return context.skip("there is no openssl to make a certificate with");
      }
      const port = await freePort();
      const files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate];
      const started = Server.start("--tls-port", `${port}`, ...files, "--tls-auth-clients", "no");
      const server = await started.catch((error: Error) => {
        if (error.message !== "The server does not start.") throw error;
      });
      if (!server) return context.skip("this server has no TLS");
      const ca = readFileSync(certificate);
      let client;
      if (library === "node-redis") {
        client = createClient({ socket: { host: "127.0.0.1", port, tls: true, ca } });
        await client.connect();
      } else {
        client = new Redis({ host: "127.0.0.1", port, tls: { ca } });
      }
      const locks = new Locks(client);
      try {
        await survive(locks, "tls", server, 900, async () => server);
        assert(await (await locks.acquire("session", { session: true })).release());
      } finally {
        await locks.close();
        client.disconnect();
        server.stop();
      }
    });
  }
});
