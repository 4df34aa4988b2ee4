// worker.mjs LIBRARY PORT SCENARIO [NUMBER [NUMBER]]: does the work of one scenario with one library, and says what it saw as
// JSON. benches/peers/README.md has the scenarios. Libraries are used as they come, but for the lease, which each is told.
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

const HOLD_MS = 1;
const LEASE_MS = 30_000;

const libraries = {
  "redis-lock": async (port) => {
    const { Locks } = await import("redis-lock-client");
    const locks = new Locks(new Redis(port));
    return {
      acquire: (name, lease = LEASE_MS) => locks.acquire(name, { lease }),
      release: (held) => held.release(),
    };
  },
  redlock: async (port) => {
    const { Redlock } = await import("@sesamecare-oss/redlock");
    // As it comes it gives up after ten tries.
    const redlock = new Redlock([new Redis(port)], { retryCount: -1 });
    redlock.on("error", () => {});
    return {
      acquire: (name, lease = LEASE_MS) => redlock.acquire([name], lease),
      release: (lock) => lock.release(),
    };
  },
};

const us = (began) => Number(process.hrtime.bigint() - began) / 1000;
const now = () => process.hrtime.bigint();

const scenarios = {
  async pairs({ acquire, release }, count) {
    const spans = [];
    for (let number = 0; number < count + 100; number++) {
      const began = now();
      await release(await acquire("pairs"));
      if (number >= 100) spans.push(us(began));
    }
    return { us: spans };
  },
  async contend({ acquire, release }, clients, ms) {
    const grants = Array(clients).fill(0);
    const waits = [];
    const end = Date.now() + ms;
    await Promise.all(
      grants.map(async (_, number) => {
        while (Date.now() < end) {
          const began = now();
          const held = await acquire("contended");
          waits.push(us(began));
          if (Date.now() < end) grants[number]++;
          await sleep(HOLD_MS);
          await release(held);
        }
      }),
    );
    return { grants, us: waits };
  },
  async "hand-over"({ acquire, release }, count) {
    const spans = [];
    for (let number = 0; number < count; number++) {
      const held = await acquire("handed");
      let returned;
      const waiting = acquire("handed").then(async (mine) => {
        returned = now();
        await release(mine);
      });
      await sleep(250);
      const began = now();
      await release(held);
      await waiting;
      spans.push(Number(returned - began) / 1000);
    }
    return { us: spans };
  },
  async crowd({ acquire, release }, waiters) {
    const held = await acquire("crowded", 600_000);
    const all = Array.from({ length: waiters }, async () => release(await acquire("crowded", 600_000)));
    await sleep(3000);
    const began = now();
    await release(held);
    await Promise.all(all);
    return { ms: us(began) / 1000 };
  },
  async hold({ acquire }, lease) {
    await acquire("dying", lease || LEASE_MS);
    console.log("held");
    await sleep(600_000);
  },
  async wait({ acquire, release }) {
    console.log("waiting");
    const held = await acquire("dying");
    console.log("granted");
    await release(held);
    return {};
  },
};

const [library, port, scenario, ...numbers] = process.argv.slice(2);
const worker = await libraries[library](Number(port));
console.log(JSON.stringify(await scenarios[scenario](worker, ...numbers.map(Number))));
process.exit(0);
