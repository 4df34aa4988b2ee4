/** What a held lock is in TypeScript: scopes, signals, levels, and what happens to one that is dropped. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { LockLostError, Locks, NoReplyError, NotAcquiredError } from "../src/index.js";
import { IOREDIS, NODE_REDIS, Server, eventually, locksOf, rises } from "./support.js";

let server: Server;
before(async () => {
  server = await Server.start();
});
after(() => server.stop());

for (const kind of [NODE_REDIS, IOREDIS]) {
  describe(kind.name, () => {
    let locks: Locks;
    let close: () => Promise<void>;
    before(async () => {
      [locks, close] = await locksOf(kind, server.port);
    });
    after(() => close());

    const isFree = (name: string): Promise<void> => server.becomes(name, { held: 0, waiting: 0 });

    test("await using releases at the end of the block", async () => {
      {
        await using held = await locks.acquire("scope");
        assert.equal((await server.info("scope")).held, 1);
        assert(held.fence > 0 && held.remaining > 20_000);
      }
      assert.equal((await server.info("scope")).held, 0);
    });

    test("await using says at the end of the block that the lock was lost", async () => {
      const work = async (): Promise<void> => {
        await using _ = await locks.acquire("scope-lost");
        await server.call("LOCK.BREAK", "scope-lost");
      };
      await assert.rejects(work, LockLostError);
    });

    test("using gives back what the work gives, and releases", async () => {
      assert.equal(await locks.using("using", async () => 7), 7);
      await isFree("using");
      await assert.rejects(
        locks.using("using", () => {
          throw new RangeError("of the work");
        }),
        RangeError,
      );
      await isFree("using");
    });

    test("using does not begin when the lock cannot be had", async () => {
      await using _ = await locks.acquire("taken");
      await assert.rejects(locks.using("taken", { wait: 0 }, assert.fail), NotAcquiredError);
    });

    test("the work is told by its signal that the lock is lost", async () => {
      const work = locks.using("lost", { lease: 900 }, async (signal) => {
        await server.call("LOCK.BREAK", "lost");
        await sleep(10_000, undefined, { signal });
      });
      await assert.rejects(work, (error: Error) => error.name === "AbortError" && error.cause instanceof LockLostError);
    });

    test("the work is told by its signal that it is cancelled, and then the lock is released", async () => {
      const cancel = new AbortController();
      const work = locks.using("cancelled", { signal: cancel.signal }, async (signal) => {
        cancel.abort();
        assert(signal.aborted);
        assert.equal((await server.info("cancelled")).held, 1);
      });
      await work;
      await isFree("cancelled");
    });

    test("a signal that is aborted already acquires nothing", async () => {
      await assert.rejects(locks.acquire("never", { signal: AbortSignal.abort() }), { name: "AbortError" });
      await isFree("never");
    });

    test("inner work gets the next level, and work beside it waits", async () => {
      await locks.using("levels", async (_, outer) => {
        assert.equal(await Promise.resolve().then(() => locks.using("levels", (_, inner) => inner.level)), 2);
        assert.deepEqual((await server.info("levels")).level, 1);
        assert(outer.held);
      });
      const held = await locks.acquire("levels");
      assert.equal(await locks.acquire("levels", { wait: 0 }), null);
      assert(await held.release());
    });

    test("inner levels may end in any order", async () => {
      await locks.using("order", async (_, outer) => {
        const [second, third] = await Promise.all([locks.acquire("order"), locks.acquire("order")]);
        assert.deepEqual([second.level, third.level], [2, 3]);
        assert.equal((await server.info("order")).level, 3);
        assert(await second.release());
        assert(third.held && outer.held);
        assert.equal((await server.info("order")).level, 3);
        assert(await third.release());
        assert.equal((await server.info("order")).level, 1);
        assert(outer.held);
      });
      await isFree("order");
    });

    test("an inner level of a session does not end it", async () => {
      await locks.using("session", { session: true, lease: 4_000 }, async (_, outer) => {
        await locks.using("session", { replicas: 0 }, (_, inner) => assert.equal(inner.level, 2));
        // Still by its own connection.
        assert(await rises(() => outer.remaining));
        assert(outer.held);
        assert.equal((await server.info("session")).held, 1);
      });
      await isFree("session");
    });

    test("who drops a held lock lets its lease run out", async () => {
      setFlagsFromString("--expose-gc");
      const collect = runInNewContext("gc") as () => void;
      const dropped = async (): Promise<void> => void (await locks.acquire("dropped", { lease: 600 }));
      const kept = await locks.acquire("kept", { lease: 4_000 });
      const { lost } = await locks.acquire("signal", { lease: 4_000 });
      await dropped();
      assert(
        await eventually(async () => {
          collect();
          return (await server.info("dropped")).held === 0;
        }),
      );
      // The work that has only the signal goes on by it.
      await Promise.all([server.isRenewed("kept"), server.isRenewed("signal")]);
      assert(kept.held && (await kept.release()));
      assert(!lost.aborted);
      await server.call("LOCK.BREAK", "signal");
      assert(await eventually(() => lost.aborted));
    });

    test("a wrong password is no lost connection", async () => {
      await server.call("ACL", "SETUSER", "somebody", "on", ">right", "~*", "&*", "+@all");
      const login = { username: "somebody", password: "right" };
      const [some, end] = await locksOf(kind, server.port, login);
      await server.call("ACL", "SETUSER", "somebody", "resetpass", ">another");
      await assert.rejects(some.acquire("x", { wait: 20_000 }), /WRONGPASS/);
      await end();
    });

    test("closed locks ask nothing any more", async () => {
      const [some, end] = await locksOf(kind, server.port);
      await some.acquire("closed", { lease: 300, renew: false });
      const session = await some.acquire("closed-session", { session: true });
      await end();
      assert(!session.held && session.lost.aborted);
      await isFree("closed-session");
      await assert.rejects(some.acquire("closed"), /closed/);
      await isFree("closed");
    });

    test("without a server there is no reply", async () => {
      const one = await Server.start();
      const [some, end] = await locksOf(kind, one.port);
      one.stop();
      await assert.rejects(some.acquire("x", { wait: 0 }), NoReplyError);
      await end();
    });
  });
}

test("what holds a lock and ends leaves no more than its lease", async () => {
  const program = `
    import { createClient } from "redis";
    import { Locks } from "${new URL("../src/index.js", import.meta.url).href}";
    const client = createClient({ url: "redis://127.0.0.1:${server.port}" });
    await client.connect();
    const locks = new Locks(client);
    const held = await locks.acquire("process", { lease: 3_000 });
    client.destroy();
    await locks.close();
    console.log(held.held);
  `;
  // It ends by itself: neither a timer nor a connection keeps it.
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    timeout: 20_000,
  });
  assert.equal(stdout.trim(), "true");
  await server.becomes("process", { held: 0 });
});
