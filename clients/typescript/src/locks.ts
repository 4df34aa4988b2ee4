/** Acquiring: the way to a held lock, and the ways out of it. */

import { LockLostError, NoReplyError, NotAcquiredError, passes } from "./errors.js";
import { HeldLock, Hold, outerOf } from "./held.js";
import { libraryOf, type AnyClient } from "./libraries.js";
import { Options, PATIENCE, type AcquireOptions } from "./options.js";
import { Server } from "./server.js";
import { isDone, type Remote } from "./steps.js";

export interface LocksOptions {
  /** Milliseconds to wait for a reply; by default what the client is set to, or 5,000. */
  timeout?: number | undefined;
}

/** @internal */
export interface Place extends Remote {
  /** What is asked for this hold and its levels. */
  forHold(options: Options): Remote;
  close(): void;
}

/**
 * Locks of the server that this client of node-redis or ioredis is for, also a cluster client.
 *
 * It has connections of its own, with the settings of that client: one for all who ask, one for the messages that say
 * whose turn it is, and one for each hold with `session` or `replicas`.
 */
export class Locks implements AsyncDisposable {
  readonly #place: Place;

  constructor(client: AnyClient, options?: LocksOptions);
  /** @internal */
  constructor(client: null, options: LocksOptions | undefined, place: Place);
  constructor(client: AnyClient | null, options: LocksOptions = {}, place?: Place) {
    this.#place = place ?? new Server(libraryOf(client!), options.timeout);
  }

  /** The held lock, or null when it is not available within `wait`. */
  acquire(name: string, how?: AcquireOptions & { wait?: undefined }): Promise<HeldLock>;
  acquire(name: string, how: AcquireOptions): Promise<HeldLock | null>;
  acquire(name: string, how: AcquireOptions = {}): Promise<HeldLock | null> {
    return this.#acquireAny(name, how);
  }

  /**
   * Several locks, all of them or none, held as one; or null when they are not available together within `wait`. Nothing is
   * held meanwhile, so those who acquire several do not wait for each other in a circle. In a cluster all names are in one
   * slot. Not with Redlock.
   */
  acquireAll(names: readonly string[], how?: AcquireOptions & { wait?: undefined }): Promise<HeldLock>;
  acquireAll(names: readonly string[], how: AcquireOptions): Promise<HeldLock | null>;
  acquireAll(names: readonly string[], how: AcquireOptions = {}): Promise<HeldLock | null> {
    return this.#acquireAny(names, how);
  }

  async #acquireAny(what: Names, how: AcquireOptions): Promise<HeldLock | null> {
    const outer = how.level === undefined && how.token === undefined ? outerOf(this, [what].flat()) : undefined;
    how.signal?.throwIfAborted();
    const held = await (outer
      ? this.#acquireInner([what].flat(), how, outer)
      : this.#acquire(new Options(what, how), how.signal));
    if (!held && how.wait === undefined) throw new NotAcquiredError("Somebody has released the token that waited.");
    return held;
  }

  /**
   * Does the work while the lock is held, and releases it, whatever ends the work. The signal is aborted when the lock is
   * lost, or when `how.signal` is. Throws NotAcquiredError when it does not become available, and LockLostError when it was
   * lost before the end.
   */
  async using<T>(name: string, work: Work<T>): Promise<T>;
  async using<T>(name: string, how: AcquireOptions, work: Work<T>): Promise<T>;
  async using<T>(name: string, how: AcquireOptions | Work<T>, work?: Work<T>): Promise<T> {
    return typeof how === "function" ? this.#using(name, {}, how) : this.#using(name, how, work!);
  }

  /** Does the work while all these locks are held: see `acquireAll` and `using`. */
  async usingAll<T>(names: readonly string[], work: Work<T>): Promise<T>;
  async usingAll<T>(names: readonly string[], how: AcquireOptions, work: Work<T>): Promise<T>;
  async usingAll<T>(names: readonly string[], how: AcquireOptions | Work<T>, work?: Work<T>): Promise<T> {
    return typeof how === "function" ? this.#using(names, {}, how) : this.#using(names, how, work!);
  }

  async #using<T>(what: Names, how: AcquireOptions, work: Work<T>): Promise<T> {
    const held = await this.#acquireAny(what, how);
    if (!held) throw new NotAcquiredError("The lock did not become available in time.");
    const signal = how.signal ? AbortSignal.any([held.lost, how.signal]) : held.lost;
    let result;
    try {
      result = await held.run(() => work(signal, held));
    } catch (error) {
      await held.release();
      throw error;
    }
    await held[Symbol.asyncDispose]();
    return result;
  }

  async #acquire(options: Options, signal?: AbortSignal): Promise<HeldLock | null> {
    const remote = this.#place.forHold(options);
    try {
      const grant = await remote.acquire(options, signal);
      signal?.throwIfAborted();
      if (grant) return new HeldLock(this, new Hold(remote, options, grant), options);
      remote.end();
      return null;
    } catch (error) {
      remote.end();
      return givingUp(this.#place.release(options), error);
    }
  }

  #acquireInner(names: readonly string[], how: AcquireOptions, { hold, level }: HeldLock): Promise<HeldLock | null> {
    const { signal, wait = Infinity } = how;
    return hold.levels.take(async () => {
      if (!(await isDone(hold.givenUp, Math.max(wait, PATIENCE), signal))) {
        signal?.throwIfAborted();
        throw new NoReplyError("The level that was given up before is not released yet.");
      }
      const next = (hold.inner.at(-1)?.level ?? level) + 1;
      const options = hold.options.next(next, { ...how, lease: how.lease ?? hold.lease });
      try {
        if (!(await hold.acquire(options, signal))) return null;
        return new HeldLock(this, hold, options, names);
      } catch (error) {
        if (error instanceof LockLostError) hold.loseRest();
        hold.givenUp = hold.release(options);
        return givingUp(hold.givenUp, error);
      }
    });
  }

  /** Closes the connections. What is held then lasts until its lease ends, and sessions end at once. */
  async close(): Promise<void> {
    this.#place.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Whatever the server did last, nothing is held and nobody waits: at the latest when this release is done. */
async function givingUp(release: Promise<unknown>, error: unknown): Promise<never> {
  if (!passes(error)) await isDone(release, PATIENCE);
  throw error;
}

type Names = string | readonly string[];

export type Work<T> = (signal: AbortSignal, held: HeldLock) => Promise<T> | T;
