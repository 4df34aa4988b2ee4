/**
 * Work that contends behind a proxy that loses replies. What the connections were told is judged by checker/
 * (REDIS_LOCK_CHECKER). And what the client itself says of a lock is judged: from `held` before to `held` after, no other
 * has it. REDIS_LOCK_SEED repeats the choices; REDIS_LOCK_SECONDS is how long it goes on (15).
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LockError, Locks, type AcquireOptions, type HeldLock } from "../src/index.js";
import { libraryOf, type Library } from "../src/libraries.js";
import { Server as Place } from "../src/server.js";
import { Proxy, type Fault } from "./proxy.js";
import { KINDS, SEED, Server, random, type Kind } from "./support.js";

const WORKERS = 8;
const NAMES = ["a", "b", "c"];
const SECONDS = Number(process.env.REDIS_LOCK_SECONDS) || 15;
// How likely each fault is, for the reply to one LOCK.* command. The connection is that of all.
const FAULTS: [Fault, number][] = [["close", 0.02], ["cut", 0.01], ["delay", 0.02], ["trickle", 0.01], ["swallow", 0.002]];
const TERMS = "terms fences=one-sequence patience=5000.000 claim=5000.000 writes=kept errors=DEADLOCK";

/** Writes down what each connection asks and is told, in the notation of checker/: see checker/src/notation.rs. */
class Recorder {
  private readonly began = performance.now();
  private readonly lines: string[] = [];
  private connections = 0;

  private write(sent: number, who: string, ask: string, answer: string): void {
    const times = [sent, performance.now()].map((each) => (each - this.began).toFixed(3).padStart(12));
    this.lines.push(`${times.join(" ")}  ${who.padEnd(6)}  n0    ${ask} => ${answer}`);
  }

  record(library: Library): Library {
    return {
      ...library,
      open: async (address, listener) => {
        const who = `c0.${this.connections++}`;
        let lastSign = performance.now();
        let open = true;
        const close = (): void => {
          // When the other side did that is not known, but that it was after the last sign of it.
          if (open) this.write(lastSign, who, "close", "done");
          open = false;
        };
        const closed = (error?: unknown): void => {
          close();
          listener.closed(error);
        };
        const connection = await library.open(address, { ...listener, closed });
        return {
          ...connection,
          close: () => {
            close();
            connection.close();
          },
          send: async (words) => {
            const sent = performance.now();
            const ask = asWritten(words);
            let answer = "gave-up";
            try {
              const reply = await connection.send(words);
              lastSign = performance.now();
              answer = answerTo(words[0]!, reply);
              return reply;
            } catch (error) {
              if (/^[A-Z]{2,} /.test((error as Error).message)) answer = `error ${(error as Error).message}`;
              throw error;
            } finally {
              if (ask) this.write(sent, who, ask, answer);
            }
          },
        };
      },
    };
  }

  get text(): string {
    return [TERMS, ...this.lines, ""].join("\n");
  }
}

function asWritten([command, key, ...rest]: string[]): string | null {
  const option = (name: string): string | undefined => {
    const at = rest.indexOf(name);
    return at < 0 ? undefined : rest[at + 1];
  };
  if (command === "LOCK.ACQUIRE") {
    const limit = rest.includes("SHARED") ? "shared" : (option("LIMIT") ?? "1");
    let text = `acquire ${key} ${option("TOKEN")} limit=${limit} lease=${option("PX")}`;
    for (const name of ["LEVEL", "BLOCK", "QUEUE"]) {
      if (option(name) !== undefined) text += ` ${name.toLowerCase()}=${option(name)}`;
    }
    return text + (rest.includes("SESSION") ? " session" : "");
  }
  if (command === "LOCK.EXTEND") return `extend ${key} ${rest[0]} lease=${option("PX")}`;
  if (command === "LOCK.RELEASE") return `release ${key} ${rest[0]}`;
  return null;
}

function answerTo(command: string, reply: unknown): string {
  if (reply === null) return "null";
  if (command !== "LOCK.ACQUIRE") return reply ? "yes" : "no";
  return Array.isArray(reply) ? `granted ${reply[1]}` : `ticket ${reply as number}`;
}

interface Span {
  name: string;
  begin: number;
  end: number;
  most: number;
}

/** What clients have said of themselves: from when to when each was sure to hold it. */
class Told {
  readonly counts: Record<string, number> = {};
  private readonly spans = new Map<number, Span>();

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  /** It was held until now, from when it was acquired. */
  watch(held: HeldLock, begin: number, how: AcquireOptions): void {
    // A session was ended by the server some moments before that is there to be seen.
    const asked = performance.now() - (how.session ? 20 : 0);
    const most = how.shared ? Infinity : (how.limit ?? 1);
    if (held.held) this.spans.set(held.fence, { name: held.name, begin, end: Math.max(begin, asked), most });
  }

  get overlapping(): string[] {
    const wrong: string[] = [];
    const open = new Map<string, Span[]>();
    for (const span of [...this.spans.values()].sort((a, b) => a.begin - b.begin)) {
      const here = [...(open.get(span.name) ?? []).filter((each) => each.end > span.begin), span];
      if (here.length > Math.min(...here.map((each) => each.most))) wrong.push(JSON.stringify(here));
      open.set(span.name, here);
    }
    return wrong;
  }
}

for (const kind of [KINDS.nodeRedis3, KINDS.ioRedis3]) {
  describe(kind.name, () => {
    let server: Server;
    before(async () => {
      server = await Server.start();
    });
    after(() => server.stop());
    test("behind random faults nobody is told what is not so", (context) => contend(kind, server, context));
  });
}

async function contend(kind: Kind, server: Server, context: TestContext): Promise<void> {
  context.diagnostic(`REDIS_LOCK_SEED=${SEED}`);
  const proxy = await Proxy.start(server.port);
  const faults = random(SEED);
  const met: Record<string, number> = {};
  proxy.draw = () => {
    let drawn = faults();
    const fault = FAULTS.find(([, share]) => (drawn -= share) < 0)?.[0];
    if (fault) met[fault] = (met[fault] ?? 0) + 1;
    return fault;
  };
  const [client, close] = await kind.client(proxy.port);
  const recorder = new Recorder();
  const told = new Told();
  const locks = new Locks(null, {}, new Place(recorder.record(libraryOf(client)), 1_000));
  const end = performance.now() + SECONDS * 1_000;
  const work = async (next: () => number): Promise<void> => {
    while (performance.now() < end) await turn(locks, told, next);
  };
  const cuts = async (next: () => number): Promise<void> => {
    while (performance.now() < end) {
      await sleep(50);
      if (next() < 0.1) proxy.cut((some) => some[Math.floor(next() * some.length)]);
    }
  };
  try {
    await Promise.all([cuts(random(SEED + 1)), ...Array.from({ length: WORKERS }, (_, each) => work(random(SEED + 2 + each)))]);
    context.diagnostic(`${JSON.stringify(told.counts)}, faults ${JSON.stringify(met)}`);
    assert.deepEqual(told.overlapping, []);
    assert(told.counts.released! > 20 && met.close! > 0);
    for (const name of NAMES) await server.becomes(name, { held: 0, waiting: 0 }, 10_000);
  } finally {
    await locks.close();
    close();
    proxy.stop();
  }
  const checker = process.env.REDIS_LOCK_CHECKER;
  if (!checker) return context.skip("REDIS_LOCK_CHECKER does not name the program of checker/");
  const file = join(server.folder, "history");
  writeFileSync(file, recorder.text);
  try {
    context.diagnostic(execFileSync(checker, [file], { encoding: "utf8" }).trimEnd().split("\n").at(-1)!);
  } catch (error) {
    assert.fail((error as { stdout: string }).stdout.slice(0, 4_000));
  }
}

async function turn(locks: Locks, told: Told, next: () => number): Promise<void> {
  const one = <T>(some: readonly T[]): T => some[Math.floor(next() * some.length)]!;
  const how: AcquireOptions = { lease: one([400, 800, 1_500]), wait: one([0, 300, 2_000, 5_000]) };
  const kind = next();
  if (kind < 0.3) how.shared = true;
  else if (kind < 0.5) how.limit = 2;
  if (next() < 0.2) how.renew = false;
  if (next() < 0.1) how.session = true;
  const cancel = new AbortController();
  const timer = next() < 0.1 ? setTimeout(() => cancel.abort(), next() * 1_000) : undefined;
  let held;
  try {
    held = await locks.acquire(one(NAMES), { ...how, signal: cancel.signal });
  } catch (error) {
    assert(error instanceof LockError || (error as Error).name === "AbortError", String(error));
    return told.count((error as Error).name);
  } finally {
    clearTimeout(timer);
  }
  if (!held) return told.count("not available");
  const begin = performance.now();
  for (let times = 1 + Math.floor(next() * 4); times > 0; times--) {
    await sleep(next() * 300);
    told.watch(held, begin, how);
    if (next() < 0.2) await held.extend(one([400, 1_000])).catch((error: unknown) => assert(error instanceof LockError));
  }
  told.count((await held.release()) ? "released" : "lost");
}
