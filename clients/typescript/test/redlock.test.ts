/** What Redlock makes of replies that are lost. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { LockLostError, NoReplyError, Redlock, type AnyClient, type HeldLock } from "../src/index.js";

type Reply = "granted" | "refused" | "silent";

/** A server that does as it is told, and grants or releases when it is told no more. */
class Fake {
  /** By command. */
  readonly next: Record<string, Reply[]> = {};

  get client(): AnyClient {
    const connection = {
      on: () => {},
      connect: async () => {},
      disconnect: () => {},
      call: (...words: string[]) => this.#reply(words),
    };
    return { options: {}, duplicate: () => connection, ssubscribe: () => {} } as never;
  }

  async #reply([command]: string[]): Promise<unknown> {
    const reply = this.next[command!]?.shift() ?? "granted";
    if (reply === "silent") return new Promise(() => {});
    if (command === "LOCK.ACQUIRE") return reply === "granted" ? ["token", 1] : null;
    return reply === "granted" ? 1 : 0;
  }
}

type Tell = (command: string, ...replies: Reply[]) => void;

async function withServers(work: (locks: Redlock, servers: Fake[], tell: Tell) => unknown): Promise<void> {
  const servers = [new Fake(), new Fake(), new Fake()];
  const locks = new Redlock(
    servers.map((each) => each.client),
    { timeout: 50 },
  );
  // Two of three, so that the third is no majority.
  const tell: Tell = (command, ...replies) => servers.slice(1).forEach((each) => (each.next[command] = [...replies]));
  await work(locks, servers, tell);
  await locks.close();
}

const level = (locks: Redlock, outer: HeldLock): Promise<HeldLock | null> => outer.run(() => locks.acquire("a", { wait: 0 }));

test("a majority that is silent once is asked again, also by who does not wait", () =>
  withServers(async (locks, _, tell) => {
    tell("LOCK.ACQUIRE", "silent");
    assert((await locks.acquire("a", { wait: 0 }))?.held);
  }));

test("a majority that stays silent is an error after 2 seconds", () =>
  withServers(async (locks, servers) => {
    for (const each of servers) each.next["LOCK.ACQUIRE"] = Array(1_000).fill("silent");
    const began = performance.now();
    await assert.rejects(locks.acquire("a", { wait: 0 }), NoReplyError);
    assert(performance.now() - began >= 2_000);
  }));

test("a level of which a majority says nothing is not lost by that", () =>
  withServers(async (locks, _, tell) => {
    const outer = await locks.acquire("a");
    tell("LOCK.ACQUIRE", "silent");
    assert.equal((await level(locks, outer))?.level, 2);
    assert(outer.held);
  }));

test("a level that a majority refuses is lost at once", () =>
  withServers(async (locks, _, tell) => {
    const outer = await locks.acquire("a");
    tell("LOCK.ACQUIRE", "refused");
    await assert.rejects(level(locks, outer), LockLostError);
    assert(!outer.held && outer.lost.aborted);
  }));

test("a release whose reply was lost may have been the one that released", () =>
  withServers(async (locks, _, tell) => {
    const held = await locks.acquire("a");
    tell("LOCK.RELEASE", "silent", "refused");
    assert(await held.release());
    assert(!held.lost.aborted);
  }));

test("a release that a majority refuses says that it was lost", () =>
  withServers(async (locks, _, tell) => {
    const held = await locks.acquire("a");
    tell("LOCK.RELEASE", "refused");
    assert.equal(await held.release(), false);
    assert(held.lost.aborted);
  }));
