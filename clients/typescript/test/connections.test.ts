/** What goes by which connection, where a server would have to do its part at the right moment. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Locks } from "../src/index.js";
import { Calls } from "../src/calls.js";
import type { Connection, Library } from "../src/libraries.js";
import { Server as Place } from "../src/server.js";

const connection = (some: Partial<Connection>): Connection => ({
  ready: Promise.resolve(),
  send: async () => null,
  subscribe: async () => {},
  unsubscribe: async () => {},
  close: () => {},
  ...some,
});

test("who comes while a subscription is on its way asks again once it stands, as the first one does", async () => {
  let confirm!: () => void;
  const library: Library = {
    timeout: 10_000,
    masters: () => null,
    owner: () => undefined,
    open: async () => connection({ subscribe: () => new Promise<void>((done) => (confirm = done)) }),
  };
  const calls = new Calls(library, null, 10_000);
  const both = [calls.subscribe("a"), calls.subscribe("a")];
  await new Promise(setImmediate);
  confirm();
  assert.deepEqual(await Promise.all(both), [true, true]);
  assert.equal(await calls.subscribe("a"), false);
  calls.close();
});

/** A slot on its way from `old` to `new`: it has no key of it any more. */
function movingSlot(asked: string[]): Library {
  return {
    timeout: 10_000,
    masters: () => ["old:1", "new:1"],
    owner: () => "old:1",
    open: async (address) => {
      let asking = false;
      return connection({
        send: async ([command]) => {
          if (command === "WAIT") return 1;
          if (command === "ASKING") {
            asking = true;
            return "OK";
          }
          const told = asking;
          asking = false;
          if (address === "old:1") throw new Error("ASK 1 new:1");
          if (!told) throw new Error("MOVED 1 old:1");
          asked.push(String(command));
          return command === "LOCK.ACQUIRE" ? ["token", 5] : 1;
        },
      });
    },
  };
}

describe("while the slot of a lock moves, its own connection is where ASK sends it", () => {
  for (const how of [{ session: true }, { replicas: 1 }]) {
    test(JSON.stringify(how), async () => {
      const asked: string[] = [];
      const locks = new Locks(null, {}, new Place(movingSlot(asked)));
      const held = await locks.acquire("a", { wait: 10_000, ...how });
      assert(held && (await held.extend()) && held.held);
      assert(await held.release());
      assert.deepEqual([...new Set(asked)], ["LOCK.ACQUIRE", "LOCK.EXTEND", "LOCK.RELEASE"]);
      await locks.close();
    });
  }
});
