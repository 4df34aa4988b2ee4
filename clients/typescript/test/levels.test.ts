/** What is asked of a server, and when, for the levels of a hold; and for how long a lock is given back. */

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { Locks, NoReplyError, type HeldLock } from "../src/index.js";
import type { Place } from "../src/locks.js";
import type { Options } from "../src/options.js";
import type { Grant } from "../src/steps.js";

/** Grants all that it is asked for, and says what that was. */
class Granting implements Place {
  readonly asked: string[] = [];
  /** What the next calls do instead. */
  failing: (() => Promise<never>)[] = [];
  releasing: (() => Promise<boolean>)[] = [];

  forHold(): this {
    return this;
  }

  async acquire(options: Options): Promise<Grant> {
    this.asked.push(options.acquire().filter((word) => word !== options.token).join(" "));
    await this.failing.shift()?.();
    return { fence: 1, ends: performance.now() + options.lease };
  }

  async extend(_: Options, lease: number): Promise<number> {
    this.asked.push(`extend ${lease}`);
    await this.failing.shift()?.();
    return performance.now() + lease;
  }

  async release(options: Options, _?: number, lease?: number): Promise<boolean> {
    this.asked.push(`release ${options.level} of ${options.names.join(" ")}${lease === undefined ? "" : ` for ${lease}`}`);
    return (await this.releasing.shift()?.()) ?? true;
  }

  async guard(): Promise<void> {}
  end(): void {}
  close(): void {}
}

let place: Granting;
let locks: Locks;
beforeEach(() => {
  place = new Granting();
  locks = new Locks(null, {}, place);
});

const noReply = async (): Promise<never> => {
  throw new NoReplyError("none");
};
/** Lets go on what can go on by itself. */
const settle = (): Promise<void> => new Promise(setImmediate);

test("a level of some of several locks is one of all", async () => {
  const held = await locks.acquireAll(["a", "b"], { lease: 4_000, renew: false });
  const inner = await held.run(() => locks.acquire("b", { lease: 60_000 }));
  assert.equal(place.asked.at(-1), "LOCK.MACQUIRE 2 a b PX 60000 TOKEN LEVEL 2");
  assert.deepEqual([inner.name, inner.names], ["b", ["b"]]);
  await assert.rejects(inner.guard(["PING"], { name: "a" }), TypeError);
  await inner.release();
  assert.match(place.asked.at(-1)!, /^release 2 of a b/);
  await held.release();
});

test("a level takes session, delay and replicas from the hold", async () => {
  const session = await locks.acquire("a", { session: true, delay: 500 });
  await session.run(() => locks.acquire("a", { session: false, delay: 0, replicas: 1, atLeast: 100 }));
  assert.equal(place.asked.at(-1), "LOCK.ACQUIRE a PX 30000 TOKEN LEVEL 2 SESSION DELAY 500");
  const plain = await locks.acquire("b");
  await plain.run(() => locks.acquire("b", { session: true, delay: 500 }));
  assert.equal(place.asked.at(-1), "LOCK.ACQUIRE b PX 30000 TOKEN LEVEL 2");
});

test("a level that was handed on has neither session nor delay", async () => {
  for (const how of [{ session: true }, { session: true, delay: 500 }]) {
    await assert.rejects(locks.acquire("a", { token: "t", level: 2, ...how }), TypeError);
  }
  assert.deepEqual(place.asked, []);
});

test("a level that is extended to less makes nothing shorter", async () => {
  const handed = await locks.acquire("a", { token: "t", level: 2, lease: 60_000, renew: false });
  const held = await locks.acquire("b", { lease: 60_000, renew: false });
  const inner = await held.run(() => locks.acquire("b"));
  for (const level of [handed, inner]) {
    assert(await level.extend(1_000));
    assert.equal(place.asked.at(-1), "extend 60000");
    assert(level.remaining > 50_000);
    place.failing = [noReply];
    await assert.rejects(level.extend(1_000), NoReplyError);
    assert(level.remaining > 40_000);
  }
  assert(await held.extend(10_000));
  assert(inner.remaining <= 10_000);
});

test("a level whose release is refused says that all is lost, and the rest is released", async () => {
  const held = await locks.acquireAll(["a", "b"]);
  const [second, third] = await held.run(() => Promise.all([locks.acquire("a"), locks.acquire("a")]));
  place.releasing = [async () => false];
  assert.equal(await third.release(), false);
  assert(held.lost.aborted && !held.held && !second.held);
  assert.match(place.asked.at(-1)!, /^release 1 of a b/);
});

test("a level that was given up is released before the next one is asked for, and renewals do not wait for that", async () => {
  const held = await locks.acquire("a");
  let released!: () => void;
  const inner = async (wait?: number): Promise<HeldLock | null> => held.run(() => locks.acquire("a", { wait: wait! }));
  place.failing = [noReply];
  place.releasing = [() => new Promise((resolve) => (released = () => resolve(true)))];
  await assert.rejects(inner(), NoReplyError);
  const next = inner();
  await settle();
  assert.match(place.asked.at(-1)!, /^release 2/);
  assert(await held.extend());
  released();
  assert.equal((await next)!.level, 2);
  assert.match(place.asked.at(-1)!, /^LOCK.ACQUIRE a .* LEVEL 2$/);
});

test("who asks for a level while the one before cannot be released is told so in time", async () => {
  const held = await locks.acquire("a");
  place.failing = [noReply];
  place.releasing = [() => new Promise(() => {})];
  const inner = (): Promise<HeldLock | null> => held.run(() => locks.acquire("a", { wait: 0 }));
  await assert.rejects(inner(), NoReplyError);
  const began = performance.now();
  await assert.rejects(inner(), NoReplyError);
  assert(performance.now() - began < 10_000);
});

test("a release is tried for as long as the lease was last extended to, or may have been", async () => {
  const held = await locks.acquire("a", { lease: 10_000, renew: false });
  await held.extend(60_000);
  await held.extend(20_000);
  place.failing = [noReply];
  await assert.rejects(held.extend(40_000), NoReplyError);
  await held.release();
  assert.equal(place.asked.at(-1), "release 1 of a for 40000");
});

test("what cannot be a lease, a level or a number of replicas is refused, and nothing is sent", async () => {
  const held = await locks.acquire("a");
  const before = [...place.asked];
  for (const lease of [NaN, 0, -1, Infinity]) {
    await assert.rejects(held.extend(lease), RangeError);
    await assert.rejects(locks.acquire("b", { lease }), RangeError);
  }
  for (const level of [0, -1, 1.5]) await assert.rejects(locks.acquire("b", { token: "t", level }), RangeError);
  for (const replicas of [-1, 0.5, NaN]) await assert.rejects(locks.acquire("b", { replicas }), RangeError);
  for (const limit of [0, 1.5, 65_536]) await assert.rejects(locks.acquire("b", { limit }), RangeError);
  assert.deepEqual(place.asked, before);
});

test("a lease is counted in the whole milliseconds that are sent", async () => {
  const held = await locks.acquire("a", { lease: 10_000.4, renew: false });
  assert.match(place.asked.at(-1)!, / PX 10000 /);
  assert(held.remaining <= 10_000);
  await held.extend(20_000.4);
  assert.equal(place.asked.at(-1), "extend 20000");
});
