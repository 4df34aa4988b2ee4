/** The cases of clients/cases, which every client passes. Each library runs them in a process of its own. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as locks from "../src/index.js";
import { Proxy, type Fault } from "./proxy.js";
import { ROOT, Server, eventually, locksOf, type Kind } from "./support.js";

const FOLDER = join(ROOT, "clients/cases");
const ERRORS: Record<string, typeof locks.LockError> = {
  NOTACQUIRED: locks.NotAcquiredError,
  LOST: locks.LockLostError,
  QUEUEFULL: locks.QueueFullError,
  DEADLOCK: locks.DeadlockError,
  NOPERM: locks.NotPermittedError,
  WRONGTYPE: locks.WrongTypeError,
  REPLICAS: locks.TooFewReplicasError,
  CONNECTION: locks.NoReplyError,
};
const OPTIONS: Record<string, string> = { at_least: "atLeast" };

// As in clients/cases/README.md.
interface Step {
  by?: string;
  options?: Record<string, unknown>;
  expect?: unknown;
  within?: number;
  from?: number;
  to?: number;
  of?: string;
  times?: number;
  at_least?: number;
  [kind: string]: unknown;
}

interface Case {
  name: string;
  needs?: string[];
  leaves?: number;
  steps: Step[];
}

type Outcome = { held: locks.HeldLock | null } | { error: unknown };

/** Does one thing after the other; what it holds is around what it does next. */
class Actor {
  private last: Promise<unknown> = Promise.resolve();
  private readonly held: locks.HeldLock[] = [];

  do<T>(what: () => Promise<T>): Promise<T> {
    const done = this.last.then(() => {
      // As work inside of `using` does.
      const around = this.held.findLast((each) => !each.released);
      return around ? around.run(what) : what();
    });
    this.last = done.catch(() => {});
    return done;
  }

  holds(held: locks.HeldLock): void {
    this.held.push(held);
  }
}

class Run {
  private readonly actors = new Map<string, Actor>();
  private readonly clients = new Map<string | undefined, locks.Locks>();
  private readonly cleanups: (() => unknown)[] = [];
  private readonly holds = new Map<string, locks.HeldLock>();
  private readonly fired = new Map<string, number>();
  private readonly begun = new Map<string, { by: Actor; done: Promise<Outcome>; cancel: AbortController }>();

  constructor(
    private readonly kind: Kind,
    private readonly server: Server,
    private readonly proxy: Proxy,
    private readonly lock: string,
  ) {}

  async run(steps: Step[]): Promise<void> {
    for (const step of steps) {
      const kind = Object.keys(step)[0]!;
      try {
        await (this as unknown as Record<string, (value: unknown, step: Step) => unknown>)[kind]!(step[kind], step);
      } catch (error) {
        if (error instanceof Error) error.message = `${JSON.stringify(step)}: ${error.message}`;
        throw error;
      }
    }
  }

  async close(): Promise<void> {
    for (const { cancel } of this.begun.values()) cancel.abort();
    for (const each of this.cleanups.reverse()) await each();
  }

  private actor(name: string): Actor {
    const actor = this.actors.get(name) ?? new Actor();
    this.actors.set(name, actor);
    return actor;
  }

  private async client(user: string | undefined): Promise<locks.Locks> {
    let client = this.clients.get(user);
    if (!client) {
      const login = user === undefined ? {} : { username: user, password: "secret" };
      const [made, close] = await locksOf(this.kind, this.proxy.port, login);
      this.cleanups.push(close);
      this.clients.set(user, (client = made));
    }
    return client;
  }

  /** `$a.token` and the like. */
  private value(word: unknown): unknown {
    if (word === "$lock") return this.lock;
    const found = typeof word === "string" && /^\$(\w+)\.(token|fence)$/.exec(word);
    return found ? this.holds.get(found[1]!)![found[2] as "token" | "fence"] : word;
  }

  async start(name: string, step: Step): Promise<void> {
    const { user, ...options } = { wait: 0, ...step.options } as Record<string, unknown>;
    const how = Object.fromEntries(Object.entries(options).map(([key, each]) => [OPTIONS[key] ?? key, this.value(each)]));
    const client = await this.client(user as string | undefined);
    const by = this.actor(step.by ?? "A");
    const cancel = new AbortController();
    const done = by
      .do(() => client.acquire(this.lock, { ...how, signal: cancel.signal }))
      .then((held) => {
        if (held) by.holds(held);
        return { held };
      })
      .catch((error: unknown) => ({ error }));
    this.begun.set(name, { by, done, cancel });
  }

  async finish(name: string, step: Step): Promise<void> {
    const { done, cancel } = this.begun.get(name)!;
    this.begun.delete(name);
    const outcome = await Promise.race([done, sleep(step.within ?? 30_000, undefined, { ref: false })]);
    assert(outcome, "it has not ended in time");
    if (step.expect === "cancelled") {
      assert("error" in outcome && outcome.error === cancel.signal.reason, "not cancelled");
    } else if (typeof step.expect === "object") {
      const { error } = step.expect as { error: string };
      assert("error" in outcome && outcome.error instanceof ERRORS[error]!, `not ${error}: ${describeOutcome(outcome)}`);
    } else if ("error" in outcome) {
      throw outcome.error;
    } else if (step.expect === "none") {
      assert.equal(outcome.held, null);
    } else {
      assert(outcome.held, "not available");
      this.holds.set(name, outcome.held);
      this.fired.set(name, 0);
      outcome.held.lost.addEventListener("abort", () => this.fired.set(name, this.fired.get(name)! + 1));
      if (outcome.held.lost.aborted) this.fired.set(name, 1);
    }
  }

  async acquire(name: string, step: Step): Promise<void> {
    await this.start(name, step);
    await this.finish(name, step);
  }

  cancel(name: string): void {
    this.begun.get(name)!.cancel.abort();
  }

  async extend(name: string, step: Step): Promise<void> {
    assert.equal(await this.holds.get(name)!.extend(step.options?.lease as number | undefined), step.expect);
  }

  async release(name: string, step: Step): Promise<void> {
    assert.equal(await this.holds.get(name)!.release(), step.expect);
  }

  held(name: string, step: Step): void {
    const held = this.holds.get(name)!;
    assert.equal(held.held, step.expect);
    assert.equal(held.remaining > 0, step.expect);
  }

  async lost(name: string, step: Step): Promise<void> {
    const { lost } = this.holds.get(name)!;
    assert(await eventually(() => lost.aborted, step.within), "not told that it is lost");
    assert(lost.reason instanceof locks.LockLostError);
    await sleep(50);
    assert.equal(this.fired.get(name), 1);
  }

  not_lost(name: string): void {
    assert(!this.holds.get(name)!.lost.aborted);
  }

  remaining(name: string, step: Step): void {
    const { remaining } = this.holds.get(name)!;
    assert(step.from! <= remaining && remaining <= step.to!, `remaining ${remaining}`);
  }

  rising(names: string[]): void {
    const fences = names.map((name) => this.holds.get(name)!.fence);
    assert.deepEqual(fences, [...new Set(fences)].sort((a, b) => a - b));
  }

  same(names: string[]): void {
    assert.equal(new Set(names.map((name) => this.holds.get(name)!.fence)).size, 1);
  }

  async redis(words: unknown[], step: Step): Promise<void> {
    const reply = await this.server.call(...(words.map((each) => this.value(each)) as string[]));
    if ("expect" in step) assert.equal(reply, step.expect);
  }

  async until(wanted: Record<string, unknown>, step: Step): Promise<void> {
    const text = JSON.stringify(wanted).replace('"default"', JSON.stringify(`${hostname()}:${process.pid}`));
    await this.server.becomes(this.lock, JSON.parse(text) as Record<string, unknown>, step.within);
  }

  async pause(time: number): Promise<void> {
    await sleep(time);
  }

  fault(fault: Fault, step: Step): void {
    this.proxy.add(fault, step.of!, step.times ?? 1);
  }

  cut(): void {
    this.proxy.cut();
  }

  stall(stalled: boolean): void {
    this.proxy.stalled = stalled;
  }

  async sent(command: string, step: Step): Promise<void> {
    const times = (): number => this.proxy.sent.filter((each) => each === command).length;
    assert(await eventually(() => times() >= step.at_least!, step.within), `sent ${times()} times`);
  }
}

function describeOutcome(outcome: Outcome): string {
  return "error" in outcome ? String(outcome.error) : outcome.held ? "held" : "none";
}

async function withReplica(server: Server): Promise<Server> {
  const replica = await Server.start();
  await replica.call("REPLICAOF", "127.0.0.1", server.port);
  const up = async (): Promise<boolean> => (await replica.direct.info("replication")).includes("master_link_status:up");
  assert(await eventually(up, 20_000));
  return replica;
}

export function runCases(kind: Kind): void {
  describe(kind.name, () => {
    let server: Server;
    before(async () => {
      server = await Server.start();
    });
    after(() => server.stop());
    for (const file of readdirSync(FOLDER).filter((each) => each.endsWith(".json"))) {
      for (const each of JSON.parse(readFileSync(join(FOLDER, file), "utf8")) as Case[]) {
        test(`${file.slice(0, -5)}: ${each.name}`, async () => {
          await server.call("FLUSHALL");
          const replica = each.needs?.includes("replica") ? await withReplica(server) : undefined;
          const proxy = await Proxy.start(server.port);
          const run = new Run(kind, server, proxy, each.name);
          try {
            await run.run(each.steps);
            proxy.stalled = false;
            await server.becomes(each.name, { held: 0, waiting: 0 }, 8_000 + (each.leaves ?? 0));
          } finally {
            proxy.stalled = false;
            await run.close();
            proxy.stop();
            replica?.stop();
          }
        });
      }
    }
  });
}
