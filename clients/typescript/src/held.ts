/** A lock that is held: when its lease is renewed, when it is over, and who is told. */

import { AsyncLocalStorage } from "node:async_hooks";
import { LockLostError, codeOf } from "./errors.js";
import { leaseOf, now, type Options, type Word } from "./options.js";
import type { Grant, Remote } from "./steps.js";

// What holds a signal may wait for it, and need not hold the lock.
const holdOf = new WeakMap<AbortSignal, Hold>();

/** Who drops a hold leaves nobody who could end its connection. */
const dropped = new FinalizationRegistry<Remote>((remote) => remote.end());

/** Does one thing after the other. */
class Turns {
  #last: Promise<unknown> = Promise.resolve();

  take<T>(what: () => Promise<T>): Promise<T> {
    const done = this.#last.then(what);
    this.#last = done.catch(() => {});
    return done;
  }
}

/** The hold of one token, whatever its level. */
export class Hold {
  readonly fence: number;
  readonly acquired = now();
  /** The levels above the first that are not released, the innermost last. */
  readonly inner: HeldLock[] = [];
  /** Acquiring and releasing them. */
  readonly levels = new Turns();
  /** The release of the level that was given up last, which the next one waits for. */
  givenUp: Promise<unknown> = Promise.resolve();
  lease: number;
  ends: number;
  /** What the lease may be, where an extension was not answered. */
  #longest: number;
  /** What changes the lease, so that what is said last is what the server did last. */
  readonly #leases = new Turns();
  #renewAt = 0;
  #renewing = false;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #lost = new AbortController();

  constructor(
    readonly remote: Remote,
    readonly options: Options,
    grant: Grant,
  ) {
    this.fence = grant.fence;
    this.lease = this.#longest = options.lease;
    this.ends = grant.ends;
    holdOf.set(this.lost, this);
    const self = new WeakRef(this);
    if (options.session) remote.onEnd = () => self.deref()?.lose();
    dropped.register(this, remote, this);
    this.#confirm(grant.ends, options.lease);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get remaining(): number {
    return this.#over ? 0 : Math.max(0, this.ends - now());
  }

  #confirm(ends: number, lease: number): void {
    this.ends = ends;
    this.lease = this.#longest = lease;
    this.#renewAt = ends - (lease * 2) / 3;
    this.#watch();
  }

  /** Nothing says from now on that it is held. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    dropped.unregister(this);
  }

  lose(): void {
    if (this.#over) return;
    this.end();
    this.remote.end();
    this.tellLost();
  }

  /** The server says that it is not held. Of several locks, what is left is of no use without it. */
  loseRest(): void {
    if (this.#over) return;
    this.lose();
    if (this.options.names.length > 1) void this.release(this.options);
  }

  tellLost(): void {
    this.#lost.abort(new LockLostError("The lock was lost."));
  }

  /** The next level, if it is granted. */
  async acquire(options: Options, signal?: AbortSignal): Promise<Grant | null> {
    return this.#leases.take(async () => {
      this.#longest = Math.max(this.#longest, options.lease);
      const grant = await this.remote.acquire(options, signal);
      signal?.throwIfAborted();
      // It was lost by our own clock meanwhile, and nothing says after that that it is held.
      if (grant && !this.remaining) throw new LockLostError("The outer level was lost.");
      if (grant) this.#confirm(Math.max(grant.ends, this.ends), Math.max(options.lease, this.lease));
      return grant;
    });
  }

  /** The lock, or a level of it. What `keepUntil` says must not come before an extension that is on its way. */
  release(options: Options, keepUntil?: number): Promise<boolean | null> {
    const release = (): Promise<boolean | null> => this.remote.release(options, keepUntil, this.#longest);
    return keepUntil ? this.#leases.take(release) : release();
  }

  async extend(wanted: number, level = this.options.level): Promise<void> {
    await this.#leases.take(async () => {
      if (!this.remaining) return;
      // A level makes nothing shorter.
      const lease = level > 1 ? Math.max(wanted, this.lease) : wanted;
      this.#longest = Math.max(this.#longest, lease);
      // A shorter lease may begin at once, also if the reply is lost.
      this.ends = Math.min(this.ends, now() + lease);
      this.#watch();
      let ends;
      try {
        ends = await this.remote.extend(this.options, lease, this.ends);
      } catch (error) {
        // The connection of a session is gone, and the lock with it.
        if (this.options.session) this.lose();
        throw error;
      }
      if (ends === null) this.loseRest();
      else if (this.remaining) this.#confirm(ends, lease);
    });
  }

  tend(): void {
    if (this.#over) return;
    if (now() >= this.ends) return this.lose();
    if (this.options.renew && !this.#renewing && now() >= this.#renewAt) {
      this.#renewing = true;
      this.extend(this.lease)
        // When nothing confirms it, it is lost at its end.
        .catch(() => {})
        .finally(() => {
          this.#renewing = false;
          this.#renewAt = Math.max(this.#renewAt, now() + this.lease / 10);
          this.#watch();
        });
    }
    this.#watch();
  }

  /** As long as somebody has this: who drops a held lock lets its lease run out. */
  #watch(): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    // Not by the clock, which goes on between one look at it and the next.
    const due = this.options.renew && !this.#renewing ? Math.min(this.#renewAt, this.ends) : this.ends;
    const self = new WeakRef(this);
    this.#timer = setTimeout(() => self.deref()?.tend(), Math.min(Math.max(0, Math.ceil(due - now())), 2 ** 30));
    this.#timer.unref();
  }
}

/** What the work around holds: by this its inner work gets the next level. */
const around = new AsyncLocalStorage<readonly HeldLock[]>();

/** The innermost level of what the work around holds that has all these names. */
export function outerOf(owner: object, names: readonly string[]): HeldLock | undefined {
  const hasAll = (held: HeldLock): boolean => names.every((name) => held.names.includes(name));
  return around.getStore()?.findLast((held) => held.owner === owner && hasAll(held) && !held.released);
}

export interface GuardOptions {
  /** Which of several locks guards the command; the first, if nothing is said. */
  name?: string | undefined;
}

/** A lock that is held, or one level of it; or several that are held together. `await using` releases it at the end, and
 * throws LockLostError if it was lost before that. */
export class HeldLock implements AsyncDisposable {
  /** The name, or the first of several. */
  readonly name: string;
  /** All names, each once. */
  readonly names: readonly string[];
  readonly token: string;
  readonly level: number;
  /** One number for all names. */
  readonly fence: number;
  /** Aborted once the lock is lost. */
  readonly lost: AbortSignal;
  /** @internal */
  readonly owner: object;
  /** @internal */
  readonly hold: Hold;
  readonly #options: Options;
  readonly #isInner: boolean;
  #released = false;

  /** With `names` an inner level, which was asked for by these of the hold.
   * @internal */
  constructor(owner: object, hold: Hold, options: Options, names?: readonly string[]) {
    this.owner = owner;
    this.hold = hold;
    this.#options = options;
    this.#isInner = names !== undefined;
    this.names = [...new Set(names ?? options.names)];
    this.name = this.names[0]!;
    this.token = options.token;
    this.level = options.level;
    this.fence = hold.fence;
    this.lost = hold.lost;
    if (names) hold.inner.push(this);
  }

  /** The milliseconds that are left of the lease, counted from before it was asked for. */
  get remaining(): number {
    return this.#released ? 0 : this.hold.remaining;
  }

  /** Whether it is held, as far as is known here. Never again once it is lost or released. */
  get held(): boolean {
    return this.remaining > 0;
  }

  /** @internal */
  get released(): boolean {
    return this.#released;
  }

  /** Begins the lease anew, from now on with another length if one is given; an inner level makes it no shorter. False when
   * the lock is lost. Throws when the server cannot be asked. */
  async extend(lease = this.hold.lease): Promise<boolean> {
    const wanted = leaseOf(lease);
    if (this.held) await this.hold.extend(wanted, this.level);
    return this.held;
  }

  /**
   * Runs a command by LOCK.GUARD: only if the lock is held at that moment, in one step. In a cluster its keys are in the slot
   * of the lock. Gives what the library gives for the reply, and throws what it throws. Throws LockLostError when the lock is
   * not held any more; nothing has run then. When no reply comes, which is a NoReplyError, the command may have run, and is
   * not sent again.
   */
  async guard(command: readonly (Word | number)[], how: GuardOptions = {}): Promise<unknown> {
    const name = how.name ?? this.name;
    if (!this.names.includes(name)) throw new TypeError("this is not the name of a lock that is held here");
    if (!this.held) throw new LockLostError("The lock is not held.");
    const words = command.map((word) => (typeof word === "number" ? String(word) : word));
    try {
      return await this.hold.remote.guard(this.#options, name, words);
    } catch (error) {
      if (codeOf(error) !== "NOTOWNER") throw error;
      if (!this.#released) this.hold.loseRest();
      throw new LockLostError("The lock was lost, and the command has not run.", { cause: error });
    }
  }

  /** Whether it was held until now. When it is not known, because no server answers, it is counted as held. */
  async release(): Promise<boolean> {
    if (this.#released) return false;
    const wasHeld = this.held;
    this.#released = true;
    if (!wasHeld) this.hold.lose();
    if (this.#isInner) return this.hold.levels.take(() => this.#releaseInner(wasHeld));
    this.hold.end();
    // Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
    const { atLeast, level } = this.#options;
    const keepUntil = atLeast && level === 1 && wasHeld ? this.hold.acquired + atLeast : 0;
    try {
      const done = await this.hold.release(this.#options, keepUntil);
      if (done === false && wasHeld) this.hold.tellLost();
      return wasHeld && done !== false;
    } finally {
      this.hold.remote.end();
    }
  }

  /** The server gives back a level and what is above it, so one that is not the innermost waits for those. */
  async #releaseInner(wasHeld: boolean): Promise<boolean> {
    const { inner } = this.hold;
    if (inner.at(-1) !== this) return wasHeld;
    let lowest: HeldLock = this;
    while (inner.at(-1)?.released) lowest = inner.pop()!;
    const done = await this.hold.release(lowest.#options);
    if (done === false) this.hold.loseRest();
    return wasHeld && done !== false;
  }

  /** Does this work, in which acquiring the lock again gives its next level. */
  run<T>(work: () => T): T {
    return around.run([...(around.getStore() ?? []), this], work);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released || (await this.release())) return;
    throw new LockLostError("The lock was lost before the work was done.");
  }
}
