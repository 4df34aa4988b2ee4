/** Three nodes: requests go to the node that has the slot, also after it has moved. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster } from "ioredis";
import { createCluster } from "redis";
import { Locks, type AnyClient } from "../src/index.js";
import { slotOf } from "../src/slots.js";
import { Server, eventually } from "./support.js";

const SETTINGS = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
let nodes: Server[];

async function startCluster(): Promise<void> {
  nodes = await Promise.all([0, 1, 2].map(() => Server.start(...SETTINGS)));
  const [first] = nodes;
  for (const [number, node] of nodes.entries()) {
    await node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1);
    const from = Math.floor((16384 * number) / 3);
    await node.call("CLUSTER", "ADDSLOTSRANGE", from, Math.floor((16384 * (number + 1)) / 3) - 1);
  }
  for (const node of nodes.slice(1)) await node.call("CLUSTER", "MEET", "127.0.0.1", first!.port);
  for (const node of nodes) {
    const whole = async (): Promise<boolean> => {
      const info = String(await node.call("CLUSTER", "INFO"));
      return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3");
    };
    assert(await eventually(whole, 30_000), "the cluster does not come up");
  }
}

const idOf = (node: Server): Promise<string> => node.call("CLUSTER", "MYID") as Promise<string>;

async function ownerOf(name: string): Promise<Server> {
  const slots = (await nodes[0]!.call("CLUSTER", "SLOTS")) as [number, number, [string, number]][];
  const slot = slotOf(name);
  const [, , [, port]] = slots.find(([from, to]) => from <= slot && slot <= to)!;
  return nodes.find((node) => node.port === port)!;
}

/** Makes the move known to all, with the locks that are in the slot. */
async function move(name: string): Promise<[from: Server, to: Server]> {
  const slot = slotOf(name);
  const from = await ownerOf(name);
  const to = nodes.find((node) => node !== from)!;
  await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", await idOf(from));
  await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", await idOf(to));
  for (const key of (await from.call("CLUSTER", "GETKEYSINSLOT", slot, 100)) as string[]) {
    await from.call("MIGRATE", "127.0.0.1", to.port, key, 0, 5_000);
  }
  await finishMove(slot, to, from);
  return [from, to];
}

async function finishMove(slot: number, to: Server, from: Server): Promise<void> {
  const id = await idOf(to);
  for (const node of [to, from, ...nodes.filter((each) => each !== to && each !== from)]) {
    await node.call("CLUSTER", "SETSLOT", slot, "NODE", id);
  }
}

/** A fourth node, that takes over the slots of the first once that is gone. */
async function startReplica(): Promise<Server> {
  const replica = await Server.start(...SETTINGS, "--cluster-replica-validity-factor", "0");
  await replica.call("CLUSTER", "MEET", "127.0.0.1", nodes[1]!.port);
  const id = await idOf(nodes[0]!);
  const follows = (): Promise<boolean> => replica.call("CLUSTER", "REPLICATE", id).then(() => true, () => false);
  assert(await eventually(follows, 20_000));
  const up = async (): Promise<boolean> => (await replica.direct.info("replication")).includes("master_link_status:up");
  assert(await eventually(up, 20_000));
  // All have to know it, or it gets no votes.
  for (const node of nodes) {
    assert(await eventually(async () => String(await node.call("CLUSTER", "NODES")).includes(`:${replica.port}@`), 20_000));
  }
  return replica;
}

const LIBRARIES: Record<string, () => Promise<[AnyClient, () => void]>> = {
  async "node-redis cluster"() {
    const client = createCluster({ rootNodes: [{ socket: { host: "127.0.0.1", port: nodes[0]!.port } }] });
    client.on("error", () => {});
    await client.connect();
    return [client, () => client.destroy()];
  },
  async "ioredis cluster"() {
    const client = new Cluster([{ host: "127.0.0.1", port: nodes[0]!.port }], { lazyConnect: true });
    client.on("error", () => {});
    await client.connect();
    return [client, () => client.disconnect()];
  },
};

describe("cluster", () => {
  before(startCluster);
  after(() => nodes.forEach((node) => node.stop()));

  test("the slot of a key is that of the server", async () => {
    for (const name of ["a", "order:44", "{order}:44", "a{}b", "a{b", "}{x}", "Überweisung", ""]) {
      assert.equal(slotOf(name), await nodes[0]!.call("CLUSTER", "KEYSLOT", name), name);
    }
  });

  for (const [library, connect] of Object.entries(LIBRARIES)) {
    describe(library, () => {
      let locks: Locks;
      let close: () => void;
      before(async () => {
        const [client, end] = await connect();
        locks = new Locks(client, { timeout: 1_000 });
        close = end;
      });
      after(async () => {
        await locks.close();
        close();
      });

      test("each lock is asked for at its own node, without redirections", async () => {
        const redirections = async (): Promise<number> => {
          const stats = await Promise.all(nodes.map((node) => node.direct.info("errorstats")));
          return stats.reduce((sum, each) => sum + Number(/errorstat_MOVED:count=(\d+)/.exec(each)?.[1] ?? 0), 0);
        };
        const before = await redirections();
        for (let number = 0; number < 30; number++) {
          await using held = await locks.acquire(`${library} ${number}`);
          assert(await (await ownerOf(held.name)).call("EXISTS", held.name));
        }
        assert.equal(await redirections(), before);
      });

      test("who waits is called at its own node", async () => {
        for (let number = 0; number < 12; number++) {
          const name = `${library} wait ${number}`;
          const owner = await ownerOf(name);
          await owner.call("LOCK.ACQUIRE", name, "PX", 60_000, "TOKEN", "other");
          const acquiring = locks.acquire(name);
          await owner.becomes(name, { held: 1, waiting: 1 });
          const subscribed = async (): Promise<boolean> =>
            ((await owner.call("PUBSUB", "SHARDNUMSUB", name)) as [string, number])[1] > 0;
          assert(await eventually(subscribed));
          const freed = performance.now();
          await owner.call("LOCK.RELEASE", name, "other");
          const held = await acquiring;
          // Without the message it asks again after 1 second at the earliest.
          assert(performance.now() - freed < 900);
          assert(await held.release());
        }
      });

      test("a lock is renewed and released where its slot has moved to", async () => {
        const name = `${library} held`;
        const held = await locks.acquire(name, { lease: 900 });
        const [, to] = await move(name);
        // Longer than the lease.
        await sleep(2_000);
        assert(held.held);
        await to.becomes(name, { held: 1 });
        assert(await held.release());
        await to.becomes(name, { held: 0, waiting: 0 });
      });

      test("who waits goes on where the slot has moved to", async () => {
        const name = `${library} waits`;
        const owner = await ownerOf(name);
        await owner.call("LOCK.ACQUIRE", name, "PX", 60_000, "TOKEN", "other");
        const acquiring = locks.acquire(name, { wait: 20_000 });
        await owner.becomes(name, { held: 1, waiting: 1 });
        const [, to] = await move(name);
        await to.becomes(name, { held: 1, waiting: 1 });
        await to.call("LOCK.RELEASE", name, "other");
        const held = await acquiring;
        assert(held);
        assert(await held.release());
      });

      test("a lock can be had while its slot moves", async () => {
        const name = `${library} moving`;
        const slot = slotOf(name);
        const from = await ownerOf(name);
        const to = nodes.find((node) => node !== from)!;
        await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", await idOf(from));
        await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", await idOf(to));
        const held = await locks.acquire(name);
        assert.equal(await from.call("CLUSTER", "COUNTKEYSINSLOT", slot), 0);
        assert.equal(await to.call("CLUSTER", "COUNTKEYSINSLOT", slot), 1);
        await finishMove(slot, to, from);
        assert(await held.extend(60_000));
        assert(await held.release());
        await to.becomes(name, { held: 0, waiting: 0 });
      });
    });
  }

  test("a replica that takes over has hold and waiter, for all libraries", async () => {
    const replica = await startReplica();
    const clients = await Promise.all(Object.values(LIBRARIES).map((connect) => connect()));
    const all = clients.map(([client]) => new Locks(client, { timeout: 1_000 }));
    try {
      const first: string[] = [];
      for (let number = 0; first.length < all.length; number++) {
        if ((await ownerOf(`failover ${number}`)) === nodes[0]) first.push(`failover ${number}`);
      }
      const held = await Promise.all(all.map((locks, each) => locks.acquire(first[each]!, { lease: 60_000, replicas: 1 })));
      const waiting = all.map((locks, each) => locks.acquire(first[each]!, { wait: 60_000 }));
      for (const name of first) await nodes[0]!.becomes(name, { held: 1, waiting: 1 });
      nodes[0]!.stop();
      for (const name of first) {
        const there = (): Promise<boolean> => replica.becomes(name, { held: 1, waiting: 1 }, 100).then(() => true, () => false);
        assert(await eventually(there, 30_000), "the waiter has not come to the new master");
      }
      for (const each of held) assert(await each.release());
      for (const each of await Promise.all(waiting)) assert(each && (await each.release()));
    } finally {
      for (const locks of all) await locks.close();
      for (const [, end] of clients) end();
      replica.stop();
    }
  });
});
