/** Several locks held as one, weights, sessions that stay for a while, and commands that a lock guards. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { DeadlockError, LockLostError, Locks, NotAcquiredError, Redlock, WrongTypeError } from "../src/index.js";
import type { AcquireOptions } from "../src/index.js";
import type { Library } from "../src/libraries.js";
import { Server as Place } from "../src/server.js";
import { IOREDIS, NODE_REDIS, Server, eventually, locksOf } from "./support.js";

let server: Server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

const fieldOf = async (name: string, field: string): Promise<unknown> => (await server.holder(name))?.[field];

for (const kind of [NODE_REDIS, IOREDIS]) {
  describe(kind.name, () => {
    let locks: Locks;
    let close: () => Promise<void>;
    before(async () => {
      [locks, close] = await locksOf(kind, server.port);
    });
    after(() => close());

    const isFree = async (...names: string[]): Promise<void> => {
      for (const name of names) await server.becomes(name, { held: 0, waiting: 0 });
    };

    test("several are held as one, each once, and released together", async () => {
      const held = await locks.acquireAll(["one", "two", "one"]);
      assert.deepEqual(held.names, ["one", "two"]);
      assert.equal(held.name, "one");
      assert.deepEqual([await fieldOf("one", "fence"), await fieldOf("two", "fence")], [held.fence, held.fence]);
      assert(await held.extend(60_000));
      assert.equal(await fieldOf("two", "lease"), 60_000);
      assert(await held.release());
      await isFree("one", "two");
    });

    test("who waits for several holds none, and is called when all are free", async ({ mock }) => {
      // Who waits repeats its request after 10 to 20 seconds then, not 1 to 2, and has to be called to be sooner.
      const { setTimeout: timer } = globalThis;
      mock.method(globalThis, "setTimeout", (done: () => void, time = 0) => timer(done, 10 * time));
      const one = await locks.acquire("wait-one");
      const two = await locks.acquire("wait-two");
      const both = locks.acquireAll(["wait-one", "wait-two", "wait-three"]);
      await server.becomes("wait-three", { held: 0, waiting: 1 });
      assert.equal(await locks.acquireAll(["wait-one", "wait-three"], { wait: 0 }), null);
      await two.release();
      await one.release();
      const began = performance.now();
      await using held = await both;
      assert(performance.now() - began < 8_000);
      assert.equal(held.names.length, 3);
    });

    test("who gives up waits nowhere", async () => {
      await using _ = await locks.acquire("gone-one");
      const cancel = new AbortController();
      const both = locks.acquireAll(["gone-two", "gone-one"], { signal: cancel.signal });
      await server.becomes("gone-two", { waiting: 1 });
      cancel.abort();
      await assert.rejects(both, { name: "AbortError" });
      await isFree("gone-two");
      await assert.rejects(locks.usingAll(["gone-two", "gone-one"], { wait: 50 }, assert.fail), NotAcquiredError);
      await isFree("gone-two");
    });

    test("all of them are renewed, and one that is broken loses all", async () => {
      const held = await locks.acquireAll(["renewed-one", "renewed-two"], { lease: 4_000 });
      await Promise.all(held.names.map((name) => server.isRenewed(name)));
      assert(held.held);
      await server.call("LOCK.BREAK", "renewed-two");
      assert(await eventually(() => held.lost.aborted));
      assert.equal(await held.release(), false);
      await isFree("renewed-one", "renewed-two");
    });

    test("a release that finds one of them gone says so", async () => {
      const work = locks.usingAll(["short-one", "short-two"], async () => void (await server.call("LOCK.BREAK", "short-one")));
      await assert.rejects(work, LockLostError);
      await isFree("short-one", "short-two");
    });

    test("one that is no lock any more keeps none of the others", async () => {
      const held = await locks.acquireAll(["typed-one", "typed-two"]);
      await server.call("SET", "typed-two", "something");
      assert.equal(await held.release(), false);
      await isFree("typed-one");
      await assert.rejects(locks.acquireAll(["typed-one", "typed-two"]), WrongTypeError);
      await server.call("DEL", "typed-two");
    });

    test("inner work gets the next level of all, or of some", async () => {
      await locks.usingAll(["level-one", "level-two"], async (_, outer) => {
        const all = await locks.acquireAll(["level-two", "level-one"]);
        const one = await locks.acquire("level-one");
        assert.deepEqual([all.level, one.level, one.token, one.names], [2, 3, outer.token, ["level-one"]]);
        // Of all, as they have one lease.
        assert.deepEqual([await fieldOf("level-one", "level"), await fieldOf("level-two", "level")], [3, 3]);
        // Not the innermost, so it waits.
        assert(await all.release());
        assert(await one.release());
        assert.deepEqual([await fieldOf("level-one", "level"), await fieldOf("level-two", "level")], [1, 1]);
        assert(await (await locks.acquireAll(["level-two"])).extend());
        assert(outer.held);
      });
      await isFree("level-one", "level-two");
    });

    test("who holds one of several is told that it cannot wait for them", async () => {
      await using one = await locks.acquire("some-one");
      await server.call("LOCK.ACQUIRE", "some-two", "TOKEN", "other");
      const { token } = one;
      await assert.rejects(locks.acquireAll(["some-one", "some-two"], { token, level: 1 }), DeadlockError);
      await server.call("LOCK.RELEASE", "some-two", "other");
      // What ends an acquire gives back all that its token has.
      assert(await locks.acquire("some-one", { token, level: 1 }));
    });

    test("weights count, and those that cannot be are refused here", async () => {
      const three = await locks.acquire("weighed", { limit: 5, weight: 3 });
      assert.equal(await fieldOf("weighed", "weight"), 3);
      assert.equal(await locks.acquire("weighed", { limit: 5, weight: 3, wait: 0 }), null);
      const two = await locks.acquire("weighed", { limit: 5, weight: 2 });
      assert((await two.release()) && (await three.release()));
      assert(await (await locks.acquire("weighed", { shared: true, weight: 65_535 })).release());
      const wrong: AcquireOptions[] = [{ weight: 2 }, { limit: 5, weight: 6 }, { weight: 0 }, { shared: true, weight: 65_536 }];
      for (const how of [...wrong, { limit: 5, weight: 1.5 }]) await assert.rejects(locks.acquire("weighed", how), RangeError);
    });

    test("a session with a delay is lost with its connection, and stays for that long", async () => {
      const [some, end] = await locksOf(kind, server.port);
      const held = await some.acquire("delayed", { session: true, delay: 3_000 });
      // An inner level does not change it.
      await held.run(() => some.using("delayed", () => {}));
      const client = await fieldOf("delayed", "session");
      const began = performance.now();
      await server.call("CLIENT", "KILL", "ID", String(client));
      assert(await eventually(() => held.lost.aborted));
      assert.equal((await server.info("delayed")).held, 1);
      await server.becomes("delayed", { held: 0 });
      assert(performance.now() - began > 2_900);
      await assert.rejects(some.acquire("delayed", { delay: 700 }), TypeError);
      await end();
    });

    test("each acquire has a label of its own, and says it to the end", async () => {
      const label = async (name: string): Promise<string> => {
        const held = await locks.acquire(name);
        const owner = String(await fieldOf(name, "owner"));
        await held.release();
        return owner;
      };
      const [one, two] = [await label("label"), await label("label")];
      assert.notEqual(one, two);
      assert.match(one, new RegExp(`:${process.pid}:\\d+$`));
    });

    test("a guard runs a command while the lock is held, and gives its reply", async () => {
      await locks.using("guard", async (_, held) => {
        assert.equal(await held.guard(["SET", "guarded", "1"]), "OK");
        assert.equal(await held.guard(["INCRBY", "guarded", 41]), 42);
        assert.equal(await held.guard(["GET", Buffer.from("guarded")]), "42");
        assert.deepEqual(await held.guard(["MGET", "guarded", "nothing"]), ["42", null]);
      });
      await locks.usingAll(["guard-one", "guard-two"], { session: true }, async (_, held) => {
        assert.equal(await held.guard(["ECHO", "one"]), "one");
        assert.equal(await held.guard(["ECHO", "two"], { name: "guard-two" }), "two");
        await assert.rejects(held.guard(["ECHO", "three"], { name: "guard-three" }), TypeError);
        assert.equal(await held.run(() => locks.using("guard-two", (_, inner) => inner.guard(["ECHO", "inner"]))), "inner");
      });
    });

    test("an error of the guarded command is that of the library, and loses nothing", async () => {
      await locks.using("wrong", async (_, held) => {
        await held.guard(["SET", "string", "1"]);
        const error = await held.guard(["LPUSH", "string", "1"]).catch((error: Error) => error);
        assert(error instanceof Error && error.message.startsWith("WRONGTYPE") && !(error instanceof WrongTypeError));
        await assert.rejects(held.guard(["BLPOP", "list", "0"]), /ERR LOCK.GUARD/);
        // Not one that begins with a code: a connection would be given up for what seems no reply.
        const mine = await held.guard(["EVAL", "return {err = 'it is not so'}", "0"]).catch((error: Error) => error);
        assert.match(String(mine), /it is not so/);
        assert(!(mine as Error).message.includes("connection"));
        assert(held.held && !held.lost.aborted);
      });
    });

    test("a guard of a lock that is gone runs nothing, and says once that it is lost", async () => {
      const held = await locks.acquire("guard-lost");
      let fired = 0;
      held.lost.addEventListener("abort", () => fired++);
      await server.call("LOCK.BREAK", "guard-lost");
      for (let i = 0; i < 2; i++) {
        await assert.rejects(held.guard(["SET", "unguarded", "1"]), LockLostError);
        assert.deepEqual([held.held, fired], [false, 1]);
      }
      assert.equal(await server.call("EXISTS", "unguarded"), 0);
      assert.equal(await held.release(), false);
      await assert.rejects(held.guard(["SET", "unguarded", "1"]), LockLostError);
    });
  });
}

test("there are 1 to 256 names", async () => {
  const [locks, close] = await locksOf(NODE_REDIS, server.port);
  const many = Array.from({ length: 257 }, (_, each) => `many-${each}`);
  await assert.rejects(locks.acquireAll([]), RangeError);
  await assert.rejects(locks.acquireAll(many), RangeError);
  await (await locks.acquireAll(many.slice(1))).release();
  await server.becomes("many-256", { held: 0 });
  await close();
});

test("in a cluster all names are in one slot", async () => {
  const library: Library = {
    timeout: 100,
    masters: () => ["127.0.0.1:1"],
    owner: () => "127.0.0.1:1",
    open: () => Promise.reject(new Error("nobody is there")),
  };
  const locks = new Locks(null, {}, new Place(library));
  await assert.rejects(locks.acquireAll(["a", "b"]), /put the same \{tag\} in all names/);
  await assert.rejects(locks.acquireAll(["a{t}", "b{t}"], { wait: 0 }), /no connection/);
  await locks.close();
});

test("Redlock has neither several locks nor guards", async () => {
  const [client, close] = await NODE_REDIS.client(server.port);
  const locks = new Redlock([client]);
  await assert.rejects(locks.acquireAll(["a", "b"]), /each lock is acquired by itself/);
  await using held = await locks.acquire("redlock", { limit: 2, weight: 2 });
  await assert.rejects(held.guard(["PING"]), /no command is guarded/);
  await held.release();
  await locks.close();
  close();
});
