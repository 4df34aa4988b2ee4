/** A lock that is held: when its lease is renewed, when it is over, and who is told. */

import { AsyncLocalStorage } from "node:async_hooks";
import { LockLostError, codeOf } from "./errors.js";
import { now, type Options, type Word } from "./options.js";
import { all, type Grant, type Remote } from "./steps.js";

// What holds a signal may wait for it, and need not hold the lock.
const holdOf = new WeakMap<AbortSignal, Hold>();

/** The hold of one token, whatever its level. */
export class Hold {
  readonly fence: number;
  readonly acquired = now();
  /** The levels above the first that are not released, the innermost last. */
  readonly inner: HeldLock[] = [];
  lease: number;
  ends: number;
  #renewAt = 0;
  #renewing = false;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();
  readonly #lost = new AbortController();

  constructor(
    readonly remote: Remote,
    readonly options: Options,
    grant: Grant,
  ) {
    this.fence = grant.fence;
    this.lease = options.lease;
    this.ends = grant.ends;
    holdOf.set(this.lost, this);
    const self = new WeakRef(this);
    if (options.session) remote.onEnd = () => self.deref()?.lose();
    this.confirm(grant.ends, options.lease);
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  get remaining(): number {
    return this.#over ? 0 : Math.max(0, this.ends - now());
  }

  confirm(ends: number, lease: number): void {
    this.ends = ends;
    this.lease = lease;
    this.#renewAt = ends - (lease * 2) / 3;
    this.#watch();
  }

  /** Nothing says from now on that it is held. */
  end(): void {
    this.#over = true;
    clearTimeout(this.#timer);
  }

  lose(): void {
    if (this.#over) return;
    this.end();
    this.tellLost();
  }

  /** The server says that it is not held. Of several locks, what is left is of no use without it. */
  loseRest(): void {
    if (this.#over) return;
    this.lose();
    if (this.options.names.length > 1) void this.remote.release(this.options);
  }

  tellLost(): void {
    this.#lost.abort(new LockLostError("The lock was lost."));
  }

  /** One by one, so that what is said last is what the server did last. */
  inTurn<T>(what: () => Promise<T>): Promise<T> {
    const done = this.#last.then(what);
    this.#last = done.catch(() => {});
    return done;
  }

  async extend(lease: number): Promise<void> {
    await this.inTurn(async () => {
      if (!this.remaining) return;
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
      else if (this.remaining) this.confirm(ends, lease);
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

  /** @internal */
  constructor(owner: object, hold: Hold, options: Options, isInner = false) {
    this.owner = owner;
    this.hold = hold;
    this.#options = options;
    this.#isInner = isInner;
    this.name = options.name;
    this.names = options.names;
    this.token = options.token;
    this.level = options.level;
    this.fence = hold.fence;
    this.lost = hold.lost;
    if (isInner) hold.inner.push(this);
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

  /** Begins the lease anew, from now on with another length if one is given. False when the lock is lost. Throws when the
   * server cannot be asked. */
  async extend(lease = this.hold.lease): Promise<boolean> {
    if (this.held) await this.hold.extend(lease);
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
    if (this.#isInner) return this.hold.inTurn(() => this.#releaseInner(wasHeld));
    this.hold.end();
    // Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
    const { atLeast, level } = this.#options;
    const keepUntil = atLeast && level === 1 && wasHeld ? this.hold.acquired + atLeast : 0;
    try {
      // An extension on its way must not come after the one that keeps the lock.
      return await (keepUntil
        ? this.hold.inTurn(() => this.#release(wasHeld, this.#options, keepUntil))
        : this.#release(wasHeld, this.#options));
    } finally {
      this.hold.remote.end();
    }
  }

  /** The server gives back a level and what is above it, so one that is not the innermost waits for those. */
  async #releaseInner(wasHeld: boolean): Promise<boolean> {
    const { inner } = this.hold;
    if (inner.at(-1) !== this) return wasHeld;
    // The lowest level of each name.
    const lowest = new Map<string, Options>();
    while (inner.at(-1)?.released) for (const each of inner.pop()!.#options.each()) lowest.set(each.name, each);
    return this.#releaseAll(wasHeld, [...lowest.values()]);
  }

  #release(wasHeld: boolean, options: Options, keepUntil?: number): Promise<boolean> {
    return this.#releaseAll(wasHeld, [options], keepUntil);
  }

  async #releaseAll(wasHeld: boolean, what: readonly Options[], keepUntil?: number): Promise<boolean> {
    const done = all(await Promise.all(what.map((each) => this.hold.remote.release(each, keepUntil))));
    if (done === false && wasHeld) this.hold.tellLost();
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
