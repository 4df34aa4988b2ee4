/** Giving up around the moment of the grant leaves neither a hold nor a place. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { AcquireOptions, Locks } from "../src/index.js";
import { KINDS, SEED, Server, locksOf, random, type Kind } from "./support.js";

const TIMES = 300;
// Longer than any test: what is left is seen.
const LEASE = 600_000;

for (const kind of [KINDS.nodeRedis3, KINDS.ioRedis3]) {
  describe(kind.name, () => {
    let server: Server;
    before(async () => {
      server = await Server.start();
    });
    after(() => server.stop());
    test(`${TIMES} waits that are cancelled around the grant leave nothing`, () => cancelAll(kind, server, "wait", {}));
    test(`${TIMES} sessions that are cancelled around the grant leave nothing`, () =>
      cancelAll(kind, server, "session", { session: true }));
    test(`${TIMES} requests that do not wait and are cancelled leave nothing`, () =>
      cancelAll(kind, server, "at-once", { wait: 0 }));
  });
}

async function cancelAll(kind: Kind, server: Server, prefix: string, how: AcquireOptions): Promise<void> {
  const next = random(SEED);
  const counts = { held: 0, cancelled: 0 };
  const [locks, close] = await locksOf(kind, server.port);
  const names = Array.from({ length: TIMES }, (_, number) => `${prefix}-${number}`);
  try {
    for (let at = 0; at < TIMES; at += 5) {
      const some = names.slice(at, at + 5);
      await Promise.all(
        some.map(async (name) => {
          counts[await (how.wait === 0 ? cancelRequest : cancelWait)(locks, server, name, how, next)]++;
        }),
      );
    }
    for (const name of names) await server.becomes(name, { held: 0, waiting: 0 }, 3_000);
  } finally {
    await close();
  }
  console.log(counts);
  // Otherwise it has not happened around the grant.
  assert(Math.min(counts.held, counts.cancelled) > TIMES / 20, JSON.stringify(counts));
}

async function cancelWait(
  locks: Locks,
  server: Server,
  name: string,
  how: AcquireOptions,
  next: () => number,
): Promise<"held" | "cancelled"> {
  await server.call("LOCK.ACQUIRE", name, "PX", LEASE, "TOKEN", "holder");
  const cancel = new AbortController();
  const outcome = outcomeOf(locks.using(name, { ...how, lease: LEASE, signal: cancel.signal }, () => {}));
  while ((await server.info(name)).waiting === 0) await sleep(1);
  // Away from the moment at which it has subscribed.
  await sleep(10);
  const freed = sleep(next() * 4).then(() => server.call("LOCK.RELEASE", name, "holder"));
  await sleep(next() * 8);
  cancel.abort();
  await freed;
  return outcome;
}

async function cancelRequest(
  locks: Locks,
  _: Server,
  name: string,
  how: AcquireOptions,
  next: () => number,
): Promise<"held" | "cancelled"> {
  const cancel = new AbortController();
  const outcome = outcomeOf(locks.using(name, { ...how, lease: LEASE, signal: cancel.signal }, () => {}));
  if (next() < 0.5) await sleep(next() * 2);
  cancel.abort();
  return outcome;
}

function outcomeOf(work: Promise<void>): Promise<"held" | "cancelled"> {
  return work.then(
    () => "held" as const,
    (error: unknown) => {
      assert.equal((error as Error).name, "AbortError");
      return "cancelled" as const;
    },
  );
}
