/** Servers, and the libraries under test, used alike. */

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { Redis as Redis5 } from "ioredis5";
import { createClient } from "redis";
import { createClient as createClient5 } from "redis5";
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

  /** What LOCK.INFO says: how many hold it and wait, their labels, and the level of the first. */
  async info(name: string): Promise<Record<string, unknown>> {
    const map = plain(await this.call("LOCK.INFO", name)) as Info | null;
    const owners = (list: Info["holders"] = []): (string | null)[] => list.map((each) => each.owner);
    return {
      held: map?.held ?? 0,
      waiting: map?.waiting ?? 0,
      owners: owners(map?.holders),
      queue: owners(map?.queue),
      level: map?.holders[0]?.level ?? 0,
    };
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
  holders: { owner: string | null; level: number }[];
  queue: { owner: string | null; level: number }[];
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

/** Waits until it is true. */
export async function eventually(what: () => unknown, within = 5_000): Promise<boolean> {
  for (const end = performance.now() + within; ; await sleep(10)) {
    if (await what()) return true;
    if (performance.now() > end) return false;
  }
}

export interface Login {
  username?: string;
  password?: string;
}

/** A library with a protocol: makes locks whose replies are waited for 1 second if not otherwise said. */
export interface Kind {
  name: string;
  client(port: number, login?: Login): Promise<[client: AnyClient, close: () => void]>;
}

function nodeRedis(version: string, create: typeof createClient, RESP: 2 | 3): Kind {
  return {
    name: `node-redis ${version}, RESP${RESP}`,
    async client(port, login = {}) {
      const client = create({ socket: { host: "127.0.0.1", port }, RESP, ...login });
      client.on("error", () => {});
      await client.connect();
      return [client, () => client.destroy()];
    },
  };
}

function ioRedis(version: string, create: typeof Redis, protocol: 2 | 3): Kind {
  return {
    name: `ioredis ${version}, RESP${protocol}`,
    async client(port, login = {}) {
      const client = new create({ host: "127.0.0.1", port, protocol, ...login });
      client.on("error", () => {});
      return [client, () => client.disconnect()];
    },
  };
}

export const KINDS = {
  nodeRedis2: nodeRedis("6", createClient, 2),
  nodeRedis3: nodeRedis("6", createClient, 3),
  nodeRedis5: nodeRedis("5", createClient5 as never, 2),
  ioRedis2: ioRedis("6", Redis, 2),
  ioRedis3: ioRedis("6", Redis, 3),
  ioRedis5: ioRedis("5", Redis5 as never, 2),
};

export async function locksOf(
  kind: Kind,
  port: number,
  login?: Login,
  timeout = 1_000,
): Promise<[locks: Locks, close: () => Promise<void>]> {
  const [client, close] = await kind.client(port, login);
  const locks = new Locks(client, { timeout });
  return [
    locks,
    async () => {
      await locks.close();
      close();
    },
  ];
}

/** The same numbers for the same seed (mulberry32). */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Repeats the choices of the tests that draw some. */
export const SEED = Number(process.env.REDIS_LOCK_SEED) || randomInt(2 ** 32);
