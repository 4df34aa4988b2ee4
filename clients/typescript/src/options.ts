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
  /** What LOCK.INFO shows of it: host and process, if nothing is said. */
  owner?: string | undefined;
  /** By default the next level of what the work around this holds, see HeldLock.run; 1 is always a hold of its own. */
  level?: number | undefined;
  /** The token of the work that handed it on, for a level of its hold. */
  token?: string | undefined;
  /** It ends when its connection does, and at once if this process dies. */
  session?: boolean | undefined;
  /** So many have to confirm the grant and each extension. */
  replicas?: number | undefined;
  /** For so long nobody else gets it, even if it is released sooner. */
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

export type Words = [command: string, name: string, ...string[]];

/** A monotonic clock. */
export const now = (): number => performance.now();

/** As the server takes it. At least 1, since `BLOCK 0` waits without end. */
export const ms = (time: number): string => String(Math.max(1, Math.round(time)));

export class Options {
  readonly lease: number;
  readonly wait: number;
  readonly level: number;
  readonly session: boolean;
  readonly replicas: number;
  readonly atLeast: number;
  readonly renew: boolean;
  /** Made before anything is sent, so that a request whose reply was lost can be sent again. */
  readonly token: string;
  readonly #label: string[];

  constructor(
    readonly name: string,
    how: AcquireOptions,
  ) {
    this.lease = how.lease ?? LEASE;
    this.wait = how.wait ?? Infinity;
    this.level = how.level ?? 1;
    this.session = how.session ?? false;
    this.replicas = how.replicas ?? 0;
    this.atLeast = how.atLeast ?? 0;
    this.renew = how.renew ?? true;
    this.token = how.token ?? randomBytes(16).toString("hex");
    if (!(this.lease > 0 && this.wait >= 0 && this.atLeast >= 0)) {
      throw new RangeError("lease, wait and atLeast are milliseconds, and not negative");
    }
    if (how.shared && how.limit !== undefined) throw new TypeError("shared and limit exclude each other");
    if (this.level > 1 && how.token === undefined) {
      throw new TypeError("a level above 1 needs the token that it was handed");
    }
    if (this.session && this.atLeast) {
      throw new TypeError("a session ends with its connection, so it cannot have atLeast");
    }
    const size = how.shared ? ["SHARED"] : ["LIMIT", String(how.limit ?? 1)];
    // Label and limit stay those of the outer level.
    this.#label =
      this.level > 1
        ? ["LEVEL", String(this.level)]
        : ["OWNER", how.owner ?? `${hostname()}:${process.pid}`, ...size];
    if (this.session) this.#label.push("SESSION");
  }

  acquire(lease = this.lease): Words {
    return ["LOCK.ACQUIRE", this.name, "PX", ms(lease), "TOKEN", this.token, ...this.#label];
  }

  extend(lease: number): Words {
    return ["LOCK.EXTEND", this.name, this.token, "PX", ms(lease)];
  }

  release(): Words {
    return ["LOCK.RELEASE", this.name, this.token, ...(this.level > 1 ? ["LEVEL", String(this.level)] : [])];
  }
}
