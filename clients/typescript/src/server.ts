/** One server, or the nodes of a cluster: which of them is asked, on which connection, and how one waits. */

import { Calls } from "./calls.js";
import { LockError, NoReplyError, codeOf } from "./errors.js";
import { splitAddress, type Library } from "./libraries.js";
import { Link } from "./link.js";
import { REPEAT, TIMEOUT, ms, nameIn, type Options, type Word, type Words } from "./options.js";
import { slotOf } from "./slots.js";
import { acquiring, extending, releasing, type Asker, type Grant, type Remote } from "./steps.js";

const REDIRECTIONS = 5;
/** What goes by the connection of all, also for who has one of its own. */
const OF_ALL = new Set(["LOCK.RELEASE", "LOCK.MRELEASE", "LOCK.GUARD"]);

abstract class Steps implements Remote, Asker {
  abstract ask(words: Words): Promise<unknown>;
  abstract askReplicas(words: Words, replicas: number): Promise<[unknown, number]>;
  abstract askInTurn(words: Words, wait: number, signal?: AbortSignal): Promise<unknown>;
  abstract end(): void;

  acquire(options: Options, signal?: AbortSignal): Promise<Grant | null> {
    return acquiring(this, options, signal);
  }

  extend(options: Options, lease: number, until: number): Promise<number | null> {
    return extending(this, options, lease, until);
  }

  release(options: Options, keepUntil?: number, lease?: number): Promise<boolean | null> {
    return releasing(this, options, keepUntil, lease);
  }

  guard(options: Options, name: string, command: readonly Word[]): Promise<unknown> {
    return this.ask(["LOCK.GUARD", name, options.token, ...command]);
  }
}

/** Nobody waits on a connection here: who waits has a place in the queue, and is called by a message. */
export class Server extends Steps {
  readonly timeout: number;
  readonly #links = new Map<string | null, Link>();
  readonly #calls = new Map<string | null, Calls>();
  /** By slot: what redirections have said, which is news to the library's map. */
  readonly #moved = new Map<number, string>();
  readonly #own = new Set<OwnConnection>();
  #closed = false;

  constructor(
    readonly library: Library,
    timeout?: number,
  ) {
    super();
    this.timeout = timeout ?? (library.timeout || TIMEOUT);
  }

  forHold(options: Options): Remote {
    this.#checkSlots(options.names);
    if (!options.session && !options.replicas) return this;
    const own = new OwnConnection(this, options, () => this.#own.delete(own));
    this.#own.add(own);
    return own;
  }

  async ask(words: Words): Promise<unknown> {
    if (this.#closed) throw new LockError("These locks are closed.");
    let asking: string | null = null;
    for (let redirections = 0; ; redirections++) {
      const name = nameIn(words);
      const address: string | null = asking ?? this.address(name);
      try {
        return (await this.#link(address).askAll([words], { asking: asking !== null }))[0];
      } catch (error) {
        asking = codeOf(error) === "ASK" ? target(error, address) : null;
        this.learn(name, address, error);
        if (redirections === REDIRECTIONS || !(asking ?? codeOf(error) === "MOVED")) throw error;
      }
    }
  }

  askReplicas(): never {
    throw new TypeError("WAIT would hold up others on a shared connection: see OwnConnection");
  }

  async askInTurn(words: Words, wait: number, signal?: AbortSignal): Promise<unknown> {
    const reply = await this.ask(words);
    if (reply === null || Array.isArray(reply)) return reply;
    const name = nameIn(words);
    const address = this.address(name);
    let calls = this.#calls.get(address);
    if (!calls) this.#calls.set(address, (calls = new Calls(this.library, address, this.timeout)));
    // Who has just subscribed asks again at once: the message is sent once, and may have been sent before.
    if (!(await calls.subscribe(name))) await calls.wait(name, String(reply), Math.min(wait, REPEAT), signal);
    return reply;
  }

  /** Of the node that has the lock, or null where there is no cluster. */
  address(name: string): string | null {
    const masters = this.library.masters();
    if (!masters) return null;
    const slot = slotOf(name);
    const address = this.#moved.get(slot) ?? this.library.owner(slot) ?? masters[0];
    if (address === undefined) throw new NoReplyError("The cluster client knows no node. Is it connected?");
    return address;
  }

  /** What an error says of the node that has the lock. */
  learn(name: string, address: string | null, error: unknown): void {
    const code = codeOf(error);
    if (address === null) {
      // It is no master any more. New connections go to the one that Sentinels, or a name, stand for now.
      if (code === "READONLY" || code === "MASTERDOWN") {
        this.#links.get(null)?.close();
        this.#calls.get(null)?.reconnect();
      }
      return;
    }
    if (code === "MOVED") {
      this.#moved.set(slotOf(name), target(error, address)!);
    } else if (error instanceof NoReplyError || code === "CLUSTERDOWN") {
      // Any other node knows who has it now, and says so.
      const others = this.library.masters()!.filter((each) => each !== address);
      const other = others[Math.floor(Math.random() * others.length)];
      if (other !== undefined) this.#moved.set(slotOf(name), other);
    }
  }

  end(): void {
    // There is nothing to close: see OwnConnection.
  }

  close(): void {
    this.#closed = true;
    for (const each of [...this.#links.values(), ...this.#calls.values()]) each.close();
    for (const each of this.#own) each.end();
    this.#calls.clear();
  }

  #checkSlots(names: readonly string[]): void {
    if (names.length === 1 || !this.library.masters() || new Set(names.map(slotOf)).size === 1) return;
    throw new TypeError("in a cluster, locks that are acquired together are in one slot: put the same {tag} in all names");
  }

  #link(address: string | null): Link {
    let link = this.#links.get(address);
    if (!link) {
      link = new Link(this.library, address, this.timeout, (lost) => {
        if (this.#links.get(address) === lost) this.#links.delete(address);
      });
      this.#links.set(address, link);
    }
    return link;
  }
}

/** A connection for one hold: a session, which ends with it, or one on which WAIT holds up nobody. What releases the hold,
 * or is guarded by it, goes by the connection of all. */
class OwnConnection extends Steps {
  #link: Link | undefined;
  /** The node to which ASK has sent us. It wants ASKING each time until the slot is there. */
  #asking: string | null = null;
  onEnd?: () => void;

  constructor(
    private readonly server: Server,
    private readonly options: Options,
    private readonly ended: () => void,
  ) {
    super();
  }

  override acquire(options: Options, signal?: AbortSignal): Promise<Grant | null> {
    // What is blocked in the server would not see it.
    const cut = (): void => this.#link?.close();
    if (options.session && options.level === 1) signal?.addEventListener("abort", cut);
    return super.acquire(options, signal).finally(() => signal?.removeEventListener("abort", cut));
  }

  async ask(words: Words): Promise<unknown> {
    if (!this.options.session || OF_ALL.has(words[0])) return this.server.ask(words);
    return (await this.#askAll([words]))[0];
  }

  async askReplicas(words: Words, replicas: number): Promise<[unknown, number]> {
    const wait = ms(Math.min(1_000, this.server.timeout / 2));
    const [reply, confirmed] = await this.#askAll([words, ["WAIT", String(replicas), wait]]);
    return [reply, Number(confirmed)];
  }

  async askInTurn(words: Words, wait: number, signal?: AbortSignal): Promise<unknown> {
    if (!this.options.session) return this.server.askInTurn(words, wait, signal);
    const block = wait === Infinity ? "0" : ms(wait);
    return (await this.#askAll([[...words, "BLOCK", block]], wait + TIMEOUT))[0];
  }

  end(): void {
    const link = this.#link;
    this.#link = undefined;
    link?.close();
    this.ended();
    this.onEnd?.();
  }

  async #askAll(commands: Words[], timeout = this.server.timeout): Promise<unknown[]> {
    const asking = this.#asking !== null;
    const address = this.#asking ?? this.server.address(this.options.name);
    this.#link ??= new Link(this.server.library, address, this.server.timeout, (lost) => {
      if (this.#link !== lost) return;
      this.#link = undefined;
      if (this.options.session) this.onEnd?.();
    });
    try {
      return await this.#link.askAll(commands, { asking, timeout });
    } catch (error) {
      // By the next connection the hold would not be tied to anything.
      this.#link?.close();
      this.#asking = codeOf(error) === "ASK" ? target(error, address) : null;
      this.server.learn(this.options.name, address, error);
      throw error;
    }
  }
}

/** The node that a redirection names. Without a host it is that of the node that says so. */
function target(error: unknown, address: string | null): string | null {
  const named = (error as Error).message.split(" ")[2] ?? "";
  return named.startsWith(":") && address ? splitAddress(address).host + named : named;
}
