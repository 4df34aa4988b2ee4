/** What is done often, or dropped, leaves nothing behind in the client. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Locks } from "../src/index.js";
import { IOREDIS, Server, eventually, locksOf } from "./support.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let server: Server;
let locks: Locks;
let close: () => Promise<void>;
before(async () => {
  server = await Server.start();
  [locks, close] = await locksOf(IOREDIS, server.port);
});
after(async () => {
  await close();
  server.stop();
});

const connections = async (): Promise<number> => String(await server.call("CLIENT", "LIST")).trim().split("\n").length;

test("ten thousand locks leave nothing in memory", async () => {
  const some = async (times: number): Promise<number> => {
    for (let at = 0; at < times; at += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, each) => locks.using(`memory-${at + each}`, () => {})));
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  await some(2_000);
  const before = await some(2_000);
  const after = await some(10_000);
  // 300 bytes for each request would be 6 MB.
  assert(after - before < 3_000_000, `${after - before} bytes more`);
});

test("a session that is dropped ends, and so does its connection", async () => {
  await (await locks.acquire("first")).release();
  const before = await connections();
  const dropped = async (): Promise<void> => void (await locks.acquire("dropped", { session: true }));
  await dropped();
  assert.equal(await connections(), before + 1);
  const isOver = async (): Promise<boolean> => {
    collect();
    return (await server.info("dropped")).held === 0 && (await connections()) === before;
  };
  assert(await eventually(isOver));
});

test("a session that is lost leaves no connection", async () => {
  const before = await connections();
  const held = await locks.acquire("lost", { session: true });
  await server.call("LOCK.BREAK", "lost");
  assert.equal(await held.extend(), false);
  assert(await eventually(async () => (await connections()) === before));
  assert(held.lost.aborted);
});
