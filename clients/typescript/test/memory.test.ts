/** What is done often leaves nothing behind in the client. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { IOREDIS, Server, locksOf } from "./support.js";

test("ten thousand locks leave nothing in memory", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const server = await Server.start();
  const [locks, close] = await locksOf(IOREDIS, server.port);
  const some = async (times: number): Promise<number> => {
    for (let at = 0; at < times; at += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, each) => locks.using(`memory-${at + each}`, () => {})));
    }
    collect();
    return process.memoryUsage().heapUsed;
  };
  try {
    await some(2_000);
    const before = await some(2_000);
    const after = await some(10_000);
    // 300 bytes for each request would be 6 MB.
    assert(after - before < 3_000_000, `${after - before} bytes more`);
  } finally {
    await close();
    server.stop();
  }
});
