/**
 * The Redlock algorithm: see https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/
 *
 * One token, asked of all servers at once. It is held when a majority has granted it while something is left of the lease,
 * less what the clocks of the servers may differ by. What was granted by fewer is given back at once, and asked for again
 * after a time at random, or those who contend would do so in step and split the servers again. There is no queue: who
 * waits in several could wait for ever for one who waits there too.
 */

import { LockLostError, NoReplyError, codeOf, forCaller, passes } from "./errors.js";
import { libraryOf, type AnyClient } from "./libraries.js";
import { Locks, type LocksOptions, type Place } from "./locks.js";
import { PATIENCE, PAUSE, now, type Options, type Words } from "./options.js";
import { Server } from "./server.js";
import { sleep, type Grant, type Remote } from "./steps.js";

const RETRY = 200; // at most, between two tries
const TRIES = 3; // to release at a server whose reply was lost; what is held there otherwise ends with its lease
const TIMEOUT = 300; // or one server that is away would use up the lease

/**
 * The same over several independent servers. One server with a replica, `replicas: 1` and fences is the better choice for
 * almost everybody: the README says why.
 */
export class Redlock extends Locks {
  constructor(clients: readonly AnyClient[], options: LocksOptions = {}) {
    super(null, options, new Majority(clients, options.timeout ?? TIMEOUT));
  }
}

/** By how much a lease may end sooner at a server than here: 1 % for the clocks, 2 ms for their resolution. */
const drift = (lease: number): number => lease * 0.01 + 2;

type Reply = { server: Server; reply?: unknown; error?: unknown };

class Majority implements Place {
  readonly #servers: readonly Server[];
  readonly #quorum: number;

  constructor(clients: readonly AnyClient[], timeout: number) {
    this.#servers = clients.map((client) => new Server(libraryOf(client), timeout));
    this.#quorum = Math.floor(clients.length / 2) + 1;
  }

  forHold(options: Options): Remote {
    if (options.session || options.replicas) throw new TypeError("with several servers there are neither sessions nor replicas");
    if (!options.isOne) throw new TypeError("with several servers each lock is acquired by itself");
    return this;
  }

  guard(): never {
    throw new TypeError("with several servers no command is guarded: none of them knows whether the lock is held");
  }

  async acquire(options: Options, signal?: AbortSignal): Promise<Grant | null> {
    const began = now();
    const deadline = began + options.wait;
    for (;;) {
      signal?.throwIfAborted();
      const sent = now();
      const replies = await this.#askAll(options.acquire());
      const fences = replies.flatMap(({ reply }) => (Array.isArray(reply) ? [Number(reply[1])] : []));
      const ends = sent + options.lease - drift(options.lease);
      if (fences.length >= this.#quorum && now() < ends) return { fence: Math.max(...fences), ends };
      await this.release(options);
      const errors = replies.flatMap(({ error }) => (error === undefined ? [] : [error]));
      const lasting = errors.filter((error) => !passes(error));
      if (this.#preventsMajority(lasting.length)) throw forCaller(lasting[0]);
      const refused = replies.length - errors.length - fences.length;
      if (options.level > 1 && this.#preventsMajority(refused)) {
        throw new LockLostError("The outer level does not hold the lock any more.");
      }
      // Where no reply has come, nobody knows yet.
      const isOpen = options.level > 1 || this.#preventsMajority(errors.length);
      const until = isOpen ? Math.max(deadline, began + PATIENCE) : deadline;
      if (now() >= until) {
        if (isOpen && errors.length) throw forCaller(errors[0]);
        return null;
      }
      await sleep(Math.min(until - now(), RETRY / 4 + (Math.random() * RETRY * 3) / 4), signal);
    }
  }

  async extend(options: Options, lease: number, until: number): Promise<number | null> {
    const words = options.level > 1 ? options.acquire(lease) : options.extend(lease);
    for (;;) {
      const sent = now();
      const replies = await this.#askAll(words);
      const errors = replies.filter(({ error }) => error !== undefined && codeOf(error) !== "WRONGTYPE");
      const yes = replies.filter(({ reply }) => reply).length;
      if (yes >= this.#quorum) return sent + lease - drift(lease);
      if (yes + errors.length < this.#quorum) return null;
      if (now() + PAUSE >= until) throw forCaller(errors.at(-1)!.error);
      await sleep(Math.min(PAUSE, lease / 10));
    }
  }

  async release(options: Options, keepUntil = 0): Promise<boolean | null> {
    let left = this.#servers;
    let yes = 0;
    let no = 0;
    const silent = new Set<Server>();
    for (let tries = 0; tries < TRIES && left.length; tries++) {
      const rest = keepUntil - now();
      const replies = await this.#askAll(rest > 0 ? options.extend(rest) : options.release(), left);
      for (const { server, reply, error } of replies) {
        if (reply === 1) yes++;
        // After a lost reply 0 says nothing: the first request may have released it.
        else if ((reply === 0 && !silent.has(server)) || codeOf(error) === "WRONGTYPE") no++;
        else if (error instanceof NoReplyError) silent.add(server);
      }
      left = replies.filter(({ error }) => passes(error)).map(({ server }) => server);
    }
    return yes >= this.#quorum ? true : this.#preventsMajority(no) ? false : null;
  }

  end(): void {
    // There is nothing to close.
  }

  close(): void {
    for (const each of this.#servers) each.close();
  }

  #askAll(words: Words, servers = this.#servers): Promise<Reply[]> {
    return Promise.all(
      servers.map((server) =>
        server.ask(words).then(
          (reply): Reply => ({ server, reply }),
          (error: unknown): Reply => ({ server, error }),
        ),
      ),
    );
  }

  /** Whether the others are too few, where so many do not grant it. */
  #preventsMajority(count: number): boolean {
    return this.#servers.length - count < this.#quorum;
  }
}
