/** What is asked for, and the commands that ask for it. All times are in milliseconds. */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";

export interface AcquireOptions {
  /** Until the lock ends by itself; 30,000 if nothing is said. It is renewed each third of that. */
  lease?: number | undefined;
  /** How long to wait for it: 0 not at all; without end if nothing is said. */
  wait?: number | undefined;
  /** With any number of others that ask for it so. */
  shared?: boolean | undefined;
  /** With others, up to so many holders together; 1, alone, if nothing is said. */
  limit?: number | undefined;
  /** For how many of them it counts; 1 if nothing is said. At most `limit`, or 65,535 with `shared`. */
  weight?: number | undefined;
  /** What LOCK.INFO shows of it: host, process and a number that is new each time, if nothing is said. Give workers that can
   * hold several locks a label of their own, and the server finds deadlocks among them, where they wait with `session`. */
  owner?: string | undefined;
  /** By default the next level of what the work around this holds, see HeldLock.run; 1 is always a hold of its own. */
  level?: number | undefined;
  /** The token of the work that handed it on, for a level of its hold. */
  token?: string | undefined;
  /** It ends when its connection does, and at once if this process dies. */
  session?: boolean | undefined;
  /** With `session`: for so long the server keeps it once its connection is closed, so that work that was under way can end
   * before anybody else begins. It is lost here at once all the same. */
  delay?: number | undefined;
  /** So many have to confirm the grant and each extension. */
  replicas?: number | undefined;
  /** For so long nobody else gets it, even if it is released sooner. An inner level has none. */
  atLeast?: number | undefined;
  /** Whether the lease is renewed; true if nothing is said. */
  renew?: boolean | undefined;
  /** Ends the acquiring. What was acquired already stays held. */
  signal?: AbortSignal | undefined;
}

export const LEASE = 30_000; // of who names none
export const PAUSE = 100; // between a request that failed and the next one
export const REPEAT = 2_000; // between requests of one who waits: less than lock.claim-lease, with room for a slow reply
export const QUEUE = 15_000; // how long the place is kept: longer than it takes to come back after a broken connection
export const PATIENCE = 2_000; // how long an acquire that does not wait tries again what passes
export const TIMEOUT = 5_000; // of a client that has none: no request may hang for ever

const NAMES = 256; // at most, of locks that are acquired together
const WEIGHT = 65_535; // at most, and so is the limit
const HOST = 200; // characters of it in a label, which has at most 255 bytes

export type Word = string | Buffer;
export type Words = [command: string, ...Word[]];

/** The name of the lock that a command is for, or of the first one. */
export const nameIn = (words: Words): string => String(words[words[0].startsWith("LOCK.M") ? 2 : 1]);

/** A monotonic clock. */
export const now = (): number => performance.now();

/** A lease in whole milliseconds, as it is sent: one that were longer here than there would be held by two. */
export function leaseOf(time: number): number {
  if (!(time > 0 && time < Infinity)) throw new RangeError("a lease is milliseconds, and more than 0");
  return Math.max(1, Math.floor(time));
}

/** As the server takes it. At least 1, since `BLOCK 0` waits without end. */
export const ms = (time: number): string => String(Math.max(1, Math.round(time)));

let labels = 0;

/** One label for each acquire: nobody knows here which of them are of one worker, and the server takes a label for one. */
const newLabel = (): string => `${hostname().slice(0, HOST)}:${process.pid}:${++labels}`;

export class Options {
  /** Each once, in the order in which they were given. */
  readonly names: readonly string[];
  readonly lease: number;
  readonly wait: number;
  readonly level: number;
  readonly session: boolean;
  readonly delay: number;
  readonly replicas: number;
  readonly atLeast: number;
  readonly renew: boolean;
  /** Made before anything is sent, so that a request whose reply was lost can be sent again. */
  readonly token: string;
  readonly #how: AcquireOptions;
  /** One lock, and not several that are acquired together, even if that is one. */
  readonly isOne: boolean;
  readonly #isNext: boolean;
  readonly #label: string[];

  /** Of one lock, or of several that are acquired together; or of the next level of a hold: see `next`. */
  constructor(names: string | readonly string[], how: AcquireOptions, isNext = false) {
    this.#how = how;
    this.#isNext = isNext;
    this.isOne = typeof names === "string";
    this.names = typeof names === "string" ? [names] : [...new Set(names)];
    if (!this.names.length || this.names.length > NAMES) {
      throw new RangeError(`there must be 1 to ${NAMES} names, and not ${this.names.length}`);
    }
    this.lease = leaseOf(how.lease ?? LEASE);
    this.wait = how.wait ?? Infinity;
    this.level = how.level ?? 1;
    this.session = how.session ?? false;
    this.delay = how.delay ?? 0;
    this.replicas = how.replicas ?? 0;
    this.atLeast = how.atLeast ?? 0;
    this.renew = how.renew ?? true;
    this.token = how.token ?? randomBytes(16).toString("hex");
    if (!(this.wait >= 0 && this.atLeast >= 0 && this.delay >= 0)) {
      throw new RangeError("wait, atLeast and delay are milliseconds, and not negative");
    }
    checkWhole("level", this.level, 1);
    checkWhole("replicas", this.replicas, 0);
    if (how.shared && how.limit !== undefined) throw new TypeError("shared and limit exclude each other");
    const limit = how.limit ?? 1;
    checkWhole("limit", limit, 1, WEIGHT);
    const weight = how.weight ?? 1;
    checkWhole("weight", weight, 1, how.shared ? WEIGHT : limit);
    if (this.level > 1 && how.token === undefined) {
      throw new TypeError("a level above 1 needs the token that it was handed");
    }
    if (this.level > 1 && (this.session || this.delay) && !isNext) {
      throw new TypeError("a level has the session of its hold, so one that was handed on names none");
    }
    if (this.session && this.atLeast) {
      throw new TypeError("a session ends with its connection, so it cannot have atLeast");
    }
    if (this.delay && !this.session) throw new TypeError("delay is for what has a session");
    const size = how.shared ? ["SHARED"] : ["LIMIT", String(limit)];
    if (how.weight !== undefined) size.push("WEIGHT", String(weight));
    // Label, limit and weight stay those of the outer level.
    this.#label =
      this.level > 1
        ? ["LEVEL", String(this.level)]
        : ["OWNER", how.owner ?? newLabel(), ...size];
    if (this.session) this.#label.push("SESSION");
    if (this.delay) this.#label.push("DELAY", ms(this.delay));
  }

  /** The one, or the first of several. Who waits is called on its channel. */
  get name(): string {
    return this.names[0]!;
  }

  /** The same, of each name by itself. */
  each(): Options[] {
    if (this.isOne) return [this];
    return this.names.map((name) => new Options(name, { ...this.#how, token: this.token }, this.#isNext));
  }

  /** Of a level of the same hold: of all its names, since they have one lease, and in all else like the hold. */
  next(level: number, how: AcquireOptions): Options {
    const { session, delay, replicas, token } = this;
    const names = this.isOne ? this.name : this.names;
    return new Options(names, { ...how, session, delay, replicas, token, level, atLeast: 0 }, true);
  }

  acquire(lease = this.lease): Words {
    return [...this.#command("ACQUIRE"), "PX", ms(lease), "TOKEN", this.token, ...this.#label];
  }

  extend(lease: number): Words {
    return [...this.#command("EXTEND"), this.token, "PX", ms(lease)];
  }

  /** Levels above 1 have no such command for several names: see `each`. */
  release(): Words {
    return [...this.#command("RELEASE"), this.token, ...(this.level > 1 ? ["LEVEL", String(this.level)] : [])];
  }

  /** Whether this reply says that each of the locks is held, or was: how many of them were extended or released. */
  isAll(reply: unknown): boolean {
    return Array.isArray(reply) || Number(reply) === this.names.length;
  }

  #command(what: string): Words {
    return this.isOne ? [`LOCK.${what}`, this.name] : [`LOCK.M${what}`, String(this.names.length), ...this.names];
  }
}

function checkWhole(what: string, value: number, least: number, most = Infinity): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(`${what} is a whole number ${most < Infinity ? `from ${least} to ${most}` : `of at least ${least}`}`);
}
