/**
 * Has the client do what the proofs of clients/conformance tell it to; their README.md has the language.
 *
 *   node testee.js node-redis-5 | node-redis-6 | ioredis-5 | ioredis-6
 */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Cluster, Redis } from "ioredis";
import * as ioredis5 from "ioredis5";
import * as redis6 from "redis";
import * as redis5 from "redis5";
import * as locks from "../src/index.js";

interface Request {
  id: number;
  do: string;
  by: string;
  client: string;
  as: string;
  hold: string;
  name?: string;
  names?: string[];
  command: string[];
  of: number;
  place: string;
  servers: [host: string, port: number][];
  protocol: 2 | 3;
  timeout: number;
  user?: string;
  password?: string;
  ca?: string;
  master?: string;
  options: Record<string, unknown>;
}

/** A client of locks, and how it is closed with what is under it. */
type Made = { locks: locks.Locks; close: () => Promise<void> };

const KINDS = new Map<string, typeof locks.LockError>([
  ["NOTACQUIRED", locks.NotAcquiredError],
  ["LOST", locks.LockLostError],
  ["QUEUEFULL", locks.QueueFullError],
  ["DEADLOCK", locks.DeadlockError],
  ["NOPERM", locks.NotPermittedError],
  ["WRONGTYPE", locks.WrongTypeError],
  ["REPLICAS", locks.TooFewReplicasError],
  ["CONNECTION", locks.NoReplyError],
]);

const say = (what: object): boolean => process.stdout.write(`${JSON.stringify(what)}\n`);

function failed(error: unknown): object {
  if ((error as Error).name === "AbortError") return { outcome: "cancelled" };
  const kind = [...KINDS].find(([, kind]) => error instanceof kind)?.[0] ?? "OTHER";
  return { outcome: "error", error: kind, message: String(error) };
}

type Some = { on(event: "error", listener: () => void): unknown };

/** The clients of a library, as its users make them; and how each is closed. */
interface Library {
  places: string[];
  cannot?: Record<string, string>;
  connect(of: Request, server: [string, number]): Promise<[client: locks.AnyClient & Some, close: () => unknown]>;
}

const NO_SENTINEL = { sentinel: "node-redis has no way to hand on the settings of createSentinel" };
const NOT_OF_REDLOCK = {
  "redlock several": "each lock is acquired by itself",
  "redlock guard": "no server knows whether the majority holds the lock",
};

function nodeRedis({ createClient, createCluster }: typeof redis6): Library {
  return {
    places: ["standalone", "cluster", "redlock"],
    cannot: NO_SENTINEL,
    async connect({ protocol: RESP, place, servers, user, password, ca }, [host, port]) {
      const login = user === undefined ? {} : { username: user, password: password! };
      const tls = ca === undefined ? {} : { tls: true as const, ca: readFileSync(ca) };
      const client =
        place === "cluster"
          ? createCluster({
              rootNodes: servers.map(([host, port]) => ({ socket: { host, port } })),
              RESP,
              defaults: login,
            })
          : createClient({ socket: { host, port, ...tls }, RESP, ...login });
      client.on("error", () => {});
      await client.connect();
      return [client, () => client.destroy()];
    },
  };
}

function ioRedis(library: { Redis: typeof Redis; Cluster: typeof Cluster }): Library {
  return {
    places: ["standalone", "sentinel", "cluster", "redlock"],
    async connect({ protocol, place, servers, user, password, ca, master }, [host, port]) {
      const login = user === undefined ? {} : { username: user, password: password! };
      const tls = ca === undefined ? {} : { tls: { ca: readFileSync(ca) } };
      const nodes = servers.map(([host, port]) => ({ host, port }));
      const settings = { protocol, ...login, ...tls };
      const client =
        place === "cluster"
          ? new library.Cluster(nodes, { redisOptions: settings })
          : place === "sentinel"
            ? new library.Redis({ sentinels: nodes, name: master!, ...settings })
            : new library.Redis({ host, port, ...settings });
      client.on("error", () => {});
      return [client, () => client.disconnect()];
    },
  };
}

const LIBRARIES: Record<string, Library> = {
  "node-redis-5": nodeRedis(redis5 as never),
  "node-redis-6": nodeRedis(redis6),
  "ioredis-5": ioRedis(ioredis5 as never),
  "ioredis-6": ioRedis({ Redis, Cluster }),
};

/** Does one thing after the other; what it holds is around what it does next, as work inside of `using` is. */
class Actor {
  private last: Promise<unknown> = Promise.resolve();
  private held: locks.HeldLock[] = [];

  do(what: () => Promise<object>): Promise<object> {
    const done = this.last.then(() => {
      this.held = this.held.filter((each) => !each.released);
      const around = this.held.at(-1);
      return around ? around.run(what) : what();
    });
    this.last = done.catch(() => {});
    return done;
  }

  holds(held: locks.HeldLock): void {
    this.held.push(held);
  }
}

class Testee {
  private readonly clients = new Map<string, Made>();
  private readonly holds = new Map<string, locks.HeldLock>();
  private readonly fired = new Map<string, number>();
  private readonly actors = new Map<string, Actor>();
  private readonly running = new Map<number, AbortController>();

  constructor(private readonly library: Library) {
    say({ ready: true, protocols: [2, 3], places: library.places, cannot: { ...NOT_OF_REDLOCK, ...library.cannot } });
  }

  async answer(line: string): Promise<void> {
    const request = JSON.parse(line) as Request;
    const reply = await this.take(request).catch(failed);
    say({ id: request.id, ...reply });
  }

  private async take(request: Request): Promise<object> {
    switch (request.do) {
      case "connect":
        this.clients.set(request.client, await this.connect(request));
        return {};
      case "cancel":
        this.running.get(request.of)?.abort();
        return {};
      case "state": {
        const held = this.held(request);
        return { held: held.held, remaining: held.remaining, lost: this.fired.get(request.hold) };
      }
      case "close":
        await this.clients.get(request.client)!.close();
        return {};
    }
    let actor = this.actors.get(request.by);
    if (!actor) this.actors.set(request.by, (actor = new Actor()));
    if (request.do === "acquire") {
      const cancel = new AbortController();
      this.running.set(request.id, cancel);
      try {
        return await actor.do(() => this.acquire(request, actor, cancel.signal));
      } finally {
        this.running.delete(request.id);
      }
    }
    const held = this.held(request);
    if (request.do === "release") return actor.do(async () => ({ is: await held.release() }));
    if (request.do === "guard") {
      return actor.do(async () => ({ reply: await held.guard(request.command, { name: request.name }) }));
    }
    return actor.do(async () => ({ is: await held.extend(request.options["lease"] as number | undefined) }));
  }

  private async connect(of: Request): Promise<Made> {
    const { timeout } = of;
    const some = of.place === "redlock" ? of.servers : of.servers.slice(0, 1);
    const made = await Promise.all(some.map((server) => this.library.connect(of, server)));
    const clients = made.map(([client]) => client);
    const client = of.place === "redlock" ? new locks.Redlock(clients, { timeout }) : new locks.Locks(clients[0]!, { timeout });
    return {
      locks: client,
      close: async () => {
        await client.close();
        made.forEach(([, close]) => close());
      },
    };
  }

  private async acquire({ client, name, names, as, options }: Request, actor: Actor, signal: AbortSignal): Promise<object> {
    const { at_least: atLeast, ...others } = options;
    const how = { ...others, ...(atLeast === undefined ? {} : { atLeast: atLeast as number }), signal };
    const { locks } = this.clients.get(client)!;
    const held: locks.HeldLock | null = await (names ? locks.acquireAll(names, how) : locks.acquire(name!, how));
    if (!held) return { outcome: "none" };
    actor.holds(held);
    this.holds.set(as, held);
    this.fired.set(as, 0);
    held.lost.addEventListener("abort", () => this.fired.set(as, this.fired.get(as)! + 1));
    return { outcome: "held", fence: held.fence, token: held.token };
  }

  private held({ hold }: Request): locks.HeldLock {
    const held = this.holds.get(hold);
    if (!held) throw new Error(`nothing was held that is called ${hold}`);
    return held;
  }
}

const testee = new Testee(LIBRARIES[process.argv[2]!]!);
createInterface({ input: process.stdin })
  .on("line", (line) => void testee.answer(line))
  .on("close", () => process.exit());
