/** Five servers that know nothing of each other. */

import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LockLostError, NoReplyError, Redlock, WrongTypeError } from "../src/index.js";
import { KINDS, Server } from "./support.js";

describe("Redlock", () => {
  let servers: Server[];
  let locks: Redlock;
  const closes: (() => void)[] = [];

  const heldOn = async (name: string): Promise<number> => {
    const infos = await Promise.all(servers.map((server) => server.info(name)));
    return infos.filter(({ held }) => held === 1).length;
  };

  before(async () => {
    servers = await Promise.all(Array.from({ length: 5 }, () => Server.start()));
    const kinds = [KINDS.nodeRedis3, KINDS.ioRedis3, KINDS.nodeRedis2, KINDS.ioRedis2, KINDS.nodeRedis5];
    const clients = await Promise.all(servers.map((server, number) => kinds[number]!.client(server.port)));
    clients.forEach(([, close]) => closes.push(close));
    locks = new Redlock(clients.map(([client]) => client));
  });
  beforeEach(() => servers.forEach((server) => server.signal("SIGCONT")));
  after(async () => {
    await locks.close();
    closes.forEach((close) => close());
    servers.forEach((server) => server.stop());
  });

  test("it is held on all servers, and by nobody else until it is released", async () => {
    const held = await locks.acquire("a", { lease: 900 });
    assert.equal(await heldOn("a"), 5);
    assert.equal(await locks.acquire("a", { wait: 0 }), null);
    // Longer than the lease.
    await sleep(1_500);
    assert(held.held);
    assert.equal(await heldOn("a"), 5);
    assert(await held.release());
    assert.equal(await heldOn("a"), 0);
  });

  test("who waits gets it", async () => {
    const first = await locks.acquire("b");
    const second = locks.acquire("b", { wait: 20_000 });
    await sleep(300);
    assert(await first.release());
    const held = await second;
    assert(held && held.fence > first.fence);
    assert(await held.release());
    assert.equal(await heldOn("b"), 0);
  });

  test("inner work gets the next level", async () => {
    await locks.using("c", async (_, outer) => {
      await locks.using("c", (_, inner) => assert.deepEqual([inner.level, inner.token], [2, outer.token]));
      assert(outer.held);
    });
    assert.equal(await heldOn("c"), 0);
  });

  test("a minority that is stopped does not matter", async () => {
    for (const server of servers.slice(0, 2)) server.signal("SIGSTOP");
    const held = await locks.acquire("d", { lease: 3_000, wait: 10_000 });
    assert(held);
    assert(await held.extend());
    assert(await held.release());
    for (const server of servers.slice(0, 2)) server.signal("SIGCONT");
    // What those were sent ends with its lease.
    for (const server of servers) await server.becomes("d", { held: 0 }, 10_000);
  });

  test("with a majority that is stopped it is lost in time, and cannot be had", async () => {
    const held = await locks.acquire("e", { lease: 1_500 });
    for (const server of servers.slice(0, 3)) server.signal("SIGSTOP");
    await assert.rejects(locks.acquire("f", { wait: 0 }), NoReplyError);
    await sleep(1_600);
    assert(!held.held && held.lost.aborted);
    assert(held.lost.reason instanceof LockLostError);
    assert.equal(await held.release(), false);
  });

  test("a lock that is broken on a majority is lost", async () => {
    const held = await locks.acquire("g", { lease: 900 });
    for (const server of servers.slice(0, 3)) assert.equal(await server.call("LOCK.BREAK", "g"), 1);
    await sleep(700);
    assert(held.lost.aborted);
    assert.equal(await held.release(), false);
  });

  test("an error of a majority is the error", async () => {
    for (const server of servers.slice(0, 3)) await server.call("SET", "h", "x");
    await assert.rejects(locks.acquire("h"), WrongTypeError);
    for (const server of servers.slice(3)) assert.equal((await server.info("h")).held, 0);
  });

  test("a wait that is cancelled leaves nothing", async () => {
    await using _first = await locks.acquire("i");
    const cancel = new AbortController();
    const second = locks.acquire("i", { signal: cancel.signal });
    await sleep(100);
    cancel.abort();
    await assert.rejects(second, { name: "AbortError" });
    assert.equal(await heldOn("i"), 5);
  });
});
