/** The loops of docs/clients.md: what is asked and when, whatever the library and the connections are. */

import { LockLostError, TooFewReplicasError, codeOf, forCaller, passes } from "./errors.js";
import { PATIENCE, PAUSE, QUEUE, ms, now, type Options, type Word, type Words } from "./options.js";

export interface Grant {
  fence: number;
  /** By our own clock. */
  ends: number;
}

/** What a lock is held of: a server, or the majority of several. */
export interface Remote {
  /** Null when it is not available in time. What it throws has to be followed by a release. */
  acquire(options: Options, signal?: AbortSignal): Promise<Grant | null>;
  /** When the lease ends, or null when the lock is lost. Throws when that cannot be said. */
  extend(options: Options, lease: number, until: number): Promise<number | null>;
  /** Runs a command while the token holds this lock, once. Throws what the library throws. */
  guard(options: Options, name: string, command: readonly Word[]): Promise<unknown>;
  /** Whether it was held until now, or null when that is not known. With `keepUntil` the lease ends then, not at once. `lease`
   * is what it was last extended to, and so for how long this is tried. */
  release(options: Options, keepUntil?: number, lease?: number): Promise<boolean | null>;
  /** The hold has ended, or nobody waits for a reply any more: a connection of its own can be closed. */
  end(): void;
  /** Called when such a connection is lost. */
  onEnd?: () => void;
}

/** How requests reach a server. */
export interface Asker {
  ask(words: Words): Promise<unknown>;
  /** The reply, and how many replicas have what was written so far. */
  askReplicas(words: Words, replicas: number): Promise<[reply: unknown, confirmed: number]>;
  /** Sends this LOCK.ACQUIRE or LOCK.MACQUIRE, and does not come back with a ticket before it may have been called, or `wait` is over. */
  askInTurn(words: Words, wait: number, signal?: AbortSignal): Promise<unknown>;
  end(): void;
}

export function sleep(time: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, Math.min(time, 2 ** 31 - 1));
    if (signal?.aborted) done();
    else signal?.addEventListener("abort", done);
  });
}

/** Whether this, which does not fail, is done within the time. */
export async function isDone(what: Promise<unknown>, time: number, signal?: AbortSignal): Promise<boolean> {
  const done = new AbortController();
  void what.then(() => done.abort());
  await sleep(time, signal ? AbortSignal.any([done.signal, signal]) : done.signal);
  return done.signal.aborted;
}

export async function acquiring(server: Asker, options: Options, signal?: AbortSignal): Promise<Grant | null> {
  const began = now();
  const deadline = began + options.wait;
  let leftSomething = false;
  for (;;) {
    signal?.throwIfAborted();
    const sent = now();
    const left = deadline - sent;
    let reply;
    try {
      if (left > 0 && options.level === 1) {
        leftSomething = true;
        const words = options.acquire();
        if (!options.session) words.push("QUEUE", ms(QUEUE));
        reply = await server.askInTurn(words, left, signal);
      } else {
        reply = await server.ask(options.acquire());
      }
      signal?.throwIfAborted();
      if (Array.isArray(reply)) {
        const grant = await confirmed(server, options, Number(reply[1]), sent);
        if (grant) return grant;
        // Who holds some of several locks cannot wait for the others.
        if (options.names.length > 1) await releasing(server, options);
        continue;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!passes(error) || now() >= Math.max(deadline, began + PATIENCE)) throw forCaller(error);
      leftSomething = true;
      await sleep(PAUSE, signal);
      continue;
    }
    if (reply === null && options.level > 1) {
      throw new LockLostError("The outer level does not hold the lock any more.");
    }
    if (reply === null || now() >= deadline) {
      if (leftSomething) await releasing(server, options);
      return null;
    }
  }
}

/** Extends at once a grant whose lease may have begun long ago by our clock, or that replicas are to confirm. */
async function confirmed(server: Asker, options: Options, fence: number, sent: number): Promise<Grant | null> {
  if (!options.replicas) {
    if (now() - sent < options.lease / 10) return { fence, ends: sent + options.lease };
    // The server itself extends a session, and so no less than the lease is left.
    if (options.session) return { fence, ends: now() + options.lease };
  }
  const ends = await extending(server, options, options.lease, now() + options.lease, false);
  return ends === null ? null : { fence, ends };
}

export async function extending(
  server: Asker,
  options: Options,
  lease: number,
  until: number,
  patient = true,
): Promise<number | null> {
  // An inner level must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not.
  const words = options.level > 1 ? options.acquire(lease) : options.extend(lease);
  for (;;) {
    const sent = now();
    try {
      let reply;
      if (options.replicas) {
        let confirmed;
        [reply, confirmed] = await server.askReplicas(words, options.replicas);
        if (options.isAll(reply) && confirmed < options.replicas) {
          throw new TooFewReplicasError(`${confirmed} of ${options.replicas} replicas have confirmed it in time.`);
        }
      } else {
        reply = await server.ask(words);
      }
      return options.isAll(reply) ? sent + lease : null;
    } catch (error) {
      if (codeOf(error) === "WRONGTYPE") return null;
      // A session ends with its connection, and there is no other one to ask by.
      const final = !patient || options.session || now() + PAUSE >= until;
      if (final || !(passes(error) || error instanceof TooFewReplicasError)) throw forCaller(error);
    }
    await sleep(Math.min(PAUSE, lease / 10));
  }
}

export async function releasing(
  server: Asker,
  options: Options,
  keepUntil = 0,
  lease = options.lease,
): Promise<boolean | null> {
  if (options.level > 1 && options.names.length > 1) return releasingEach(server, options, keepUntil, lease);
  // By then the lease, or the place in the queue, has ended anyway.
  const until = now() + Math.max(QUEUE, lease);
  for (let askedBefore = false; ; ) {
    const rest = keepUntil - now();
    try {
      const reply = await server.ask(rest > 0 ? options.extend(rest) : options.release());
      // After a lost reply 0 says nothing: the first request may have released it.
      return options.isAll(reply) ? true : askedBefore && !reply ? null : false;
    } catch (error) {
      if (codeOf(error) === "WRONGTYPE") {
        // One of several is no lock any more, and none of the others was released.
        if (options.names.length > 1) await releasingEach(server, options, keepUntil, lease);
        return false;
      }
      if (!passes(error) || now() >= until) return null;
      // An error of the server says that nothing was done.
      askedBefore ||= codeOf(error) === "";
    }
    await sleep(PAUSE);
  }
}

/** Lost if one was, and not known if one is not. */
async function releasingEach(server: Asker, options: Options, keepUntil: number, lease: number): Promise<boolean | null> {
  const released = await Promise.all(options.each().map((each) => releasing(server, each, keepUntil, lease)));
  return released.includes(false) ? false : released.includes(null) ? null : true;
}
