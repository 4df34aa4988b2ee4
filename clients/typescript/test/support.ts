/** Servers, and the libraries under test, used alike. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Locks, type AnyClient } from "../src/index.js";

const running = new Set<Server>();
process.on("exit", () => running.forEach((each) => each.stop()));

export const ROOT = join(import.meta.dirname, "../../../..");

/** On a free port, in a folder of its own. Stopped at the end of the process too. */
export class Server {
  readonly folder = mkdtempSync(join(tmpdir(), "redis-lock-ts-"));
  port = 0;
  /** Not by the proxy. */
  direct!: Redis;
  #process: ChildProcess | undefined;

  static async start(...settings: string[]): Promise<Server> {
    const server = new Server();
    running.add(server);
    const module = process.env.REDIS_LOCK_MODULE;
    assert(module, "REDIS_LOCK_MODULE names no module");
    // Another server may take the port first. Then ours ends, and the next try has another one.
    for (let tries = 0; tries < 5; tries++) {
      server.port = await freePort();
      const common = ["--port", `${server.port}`, "--bind", "127.0.0.1", "--dir", server.folder, "--save", ""];
      const child = spawn(process.env.REDIS_SERVER || "redis-server", [...common, ...settings, "--loadmodule", module], {
        stdio: "ignore",
      });
      server.#process = child;
      server.direct = new Redis({
        port: server.port,
        host: "127.0.0.1",
        protocol: 3,
        replyMapping: "resp3",
        maxRetriesPerRequest: 0,
      });
      server.direct.on("error", () => {});
      const ours = async (): Promise<boolean> => {
        if (child.exitCode !== null) return true;
        const info = await server.direct.info("server").catch(() => "");
        return info.includes(`process_id:${child.pid}\r\n`);
      };
      if ((await eventually(ours, 20_000)) && child.exitCode === null) return server;
      server.direct.disconnect();
      child.kill("SIGKILL");
    }
    throw new Error("The server does not start.");
  }

  call(...words: (string | number)[]): Promise<unknown> {
    return this.direct.call(...(words.map(String) as [string, ...string[]]));
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  stop(): void {
    if (!running.delete(this)) return;
    this.direct?.disconnect();
    this.signal("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What LOCK.INFO says: how many hold it and wait, and the level of the first. */
  async info(name: string): Promise<Record<string, unknown>> {
    const map = plain(await this.call("LOCK.INFO", name)) as Info | null;
    return { held: map?.held ?? 0, waiting: map?.waiting ?? 0, level: map?.holders[0]?.level ?? 0 };
  }

  /** What LOCK.INFO says of the first who holds it. */
  async holder(name: string): Promise<Record<string, unknown> | undefined> {
    const map = plain(await this.call("LOCK.INFO", name)) as Info | null;
    return map?.holders[0];
  }

  /** Waits until its lease is renewed here. */
  async isRenewed(name: string): Promise<void> {
    assert(await rises(async () => (await this.holder(name))?.remaining), `${name} is not renewed`);
  }

  async becomes(name: string, wanted: Record<string, unknown>, within = 8_000): Promise<void> {
    let seen: Record<string, unknown> = {};
    const so = async (): Promise<boolean> => {
      seen = await this.info(name);
      return Object.entries(wanted).every(([key, value]) => JSON.stringify(seen[key]) === JSON.stringify(value));
    };
    const done = await eventually(so, within);
    assert(done, `${JSON.stringify(seen)} does not become ${JSON.stringify(wanted)}`);
  }
}

interface Info {
  held: number;
  waiting: number;
  holders: Record<string, unknown>[];
}

/** Maps of RESP3, which come as Map, as objects. */
function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, each]) => [String(key), plain(each)]));
  return Array.isArray(value) ? value.map(plain) : value;
}

export async function freePort(): Promise<number> {
  const listener = createServer();
  await new Promise<void>((listening) => listener.listen(0, "127.0.0.1", listening));
  const { port } = listener.address() as AddressInfo;
  await new Promise((closed) => listener.close(closed));
  return port;
}

/** Waits until it is true. The machine may stand still for a while, so the bound is there for what hangs. */
export async function eventually(what: () => unknown, within = 10_000): Promise<boolean> {
  for (const end = performance.now() + within; ; await sleep(10)) {
    if (await what()) return true;
    if (performance.now() > end) return false;
  }
}

/** Waits until it is more than before: what remains of a lease, once that is renewed. */
export function rises(what: () => unknown): Promise<boolean> {
  let before = Infinity;
  return eventually(async () => {
    const is = Number(await what());
    if (is > before) return true;
    before = is;
    return false;
  });
}

export interface Login {
  username?: string;
  password?: string;
}

/** A library, and how its users make a client of it. */
export interface Kind {
  name: string;
  client(port: number, login?: Login): Promise<[client: AnyClient, close: () => void]>;
}

export const NODE_REDIS: Kind = {
  name: "node-redis",
  async client(port, login = {}) {
    const client = createClient({ socket: { host: "127.0.0.1", port }, ...login });
    client.on("error", () => {});
    await client.connect();
    return [client, () => client.destroy()];
  },
};

export const IOREDIS: Kind = {
  name: "ioredis",
  async client(port, login = {}) {
    const client = new Redis({ host: "127.0.0.1", port, ...login });
    client.on("error", () => {});
    return [client, () => client.disconnect()];
  },
};

export async function locksOf(kind: Kind, port: number, login?: Login): Promise<[locks: Locks, close: () => Promise<void>]> {
  const [client, close] = await kind.client(port, login);
  const locks = new Locks(client, { timeout: 10_000 });
  return [
    locks,
    async () => {
      await locks.close();
      close();
    },
  ];
}
