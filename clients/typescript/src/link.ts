/** One connection, used until the first thing goes wrong on it. */

import { NoReplyError, codeOf, isReply } from "./errors.js";
import type { Connection, Library, Listener } from "./libraries.js";
import type { Word } from "./options.js";

export class Link {
  /** Why it is closed. */
  #error: unknown;
  readonly #opened: Promise<Connection>;
  readonly #ready: Promise<Connection>;
  /** What fails those who wait for a reply. */
  readonly #asking = new Set<(error: unknown) => void>();

  constructor(
    library: Library,
    address: string | null,
    private readonly timeout: number,
    private readonly onClosed: (link: Link) => void,
    listener: Partial<Listener> = {},
  ) {
    this.#opened = library.open(address, {
      // What the server says to a wrong password is no lost connection.
      closed: (cause) => this.#close(codeOf(cause) ? cause : new NoReplyError("The connection was closed.", { cause })),
      message: listener.message ?? (() => {}),
      moved: listener.moved ?? (() => {}),
    });
    this.#ready = this.#opened.then(async (connection) => {
      await connection.ready;
      return connection;
    });
    this.#ready.catch((cause: unknown) =>
      this.#close(codeOf(cause) ? cause : new NoReplyError("There is no connection.", { cause })),
    );
  }

  /** The reply. Closes the connection when none comes in time: what the server has not read yet, it must not read later. */
  async ask(words: Word[]): Promise<unknown> {
    return (await this.askAll([words]))[0];
  }

  /** The replies to these commands, with nothing between them. After `asking` the first may be for a slot that is on its way
   * here; that has no reply. */
  async askAll(commands: Word[][], { asking = false, timeout = this.timeout } = {}): Promise<unknown[]> {
    const all = asking ? [["ASKING"], ...commands] : commands;
    const replies = await this.#use((connection) => Promise.all(all.map((each) => connection.send(each))), timeout);
    return asking ? replies.slice(1) : replies;
  }

  subscribe(channel: string): Promise<unknown> {
    return this.#use((connection) => connection.subscribe(channel), this.timeout);
  }

  unsubscribe(channel: string): Promise<unknown> {
    return this.#use((connection) => connection.unsubscribe(channel), this.timeout);
  }

  close(): void {
    this.#close(new NoReplyError("The connection was closed."));
  }

  async #use<T>(how: (connection: Connection) => Promise<T>, timeout: number): Promise<T> {
    const late = (): void => this.#close(new NoReplyError("No reply has come in time."));
    let timer = setTimeout(late, this.timeout);
    let fail!: (error: unknown) => void;
    try {
      return await new Promise<T>((resolve, reject) => {
        fail = reject;
        this.#asking.add(fail);
        const ask = (connection: Connection): Promise<T> => {
          if (this.#error) throw this.#error;
          clearTimeout(timer);
          if (timeout < 2 ** 31) timer = setTimeout(late, timeout);
          return how(connection);
        };
        this.#ready.then(ask).then(resolve, reject);
      });
    } catch (error) {
      if (isReply(error) || error instanceof NoReplyError) throw error;
      const lost = new NoReplyError("The connection was lost.", { cause: error });
      this.#close(lost);
      throw lost;
    } finally {
      clearTimeout(timer);
      this.#asking.delete(fail);
    }
  }

  #close(error: unknown): void {
    if (this.#error) return;
    this.#error = error;
    for (const fail of this.#asking) fail(error);
    void this.#opened.then(closeQuietly, () => {});
    this.onClosed(this);
  }
}

function closeQuietly(connection: Connection): void {
  try {
    connection.close();
  } catch {
    // It was closed already.
  }
}
