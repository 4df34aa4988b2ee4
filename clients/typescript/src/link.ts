/** One connection, used until the first thing goes wrong on it. */

import { NoReplyError, codeOf } from "./errors.js";
import type { Connection, Library, Listener } from "./libraries.js";

export class Link {
  #open = true;
  readonly #connection: Promise<Connection>;
  readonly #closed: Promise<never>;
  #close!: (error: unknown) => void;

  constructor(
    library: Library,
    address: string | null,
    private readonly timeout: number,
    onClosed: (link: Link) => void,
    listener: Partial<Listener> = {},
  ) {
    this.#closed = new Promise((_, reject) => {
      this.#close = (error) => {
        if (!this.#open) return;
        this.#open = false;
        reject(error);
        void opened.then(closeQuietly, () => {});
        onClosed(this);
      };
    });
    this.#closed.catch(() => {});
    const opened = library.open(address, {
      // What the server says to a wrong password is no lost connection.
      closed: (cause) => this.#close(codeOf(cause) ? cause : new NoReplyError("The connection was closed.", { cause })),
      message: listener.message ?? (() => {}),
      moved: listener.moved ?? (() => {}),
    });
    this.#connection = opened.then(async (connection) => {
      await connection.ready;
      return connection;
    });
    this.#connection.catch((cause: unknown) => this.#close(new NoReplyError("No connection.", { cause })));
  }

  /** The reply. Closes the connection when none comes in time: what the server has not read yet, it must not read later. */
  ask(words: string[], timeout = this.timeout): Promise<unknown> {
    return this.#use((connection) => connection.send(words), timeout);
  }

  /** The replies to two commands, with nothing between them. */
  askBoth(first: string[], second: string[]): Promise<[unknown, unknown]> {
    return this.#use((each) => Promise.all([each.send(first), each.send(second)]), this.timeout);
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
    const late = (): void => this.#close(new NoReplyError(`No reply within ${timeout} ms.`));
    let timer = setTimeout(late, this.timeout);
    try {
      const connection = await Promise.race([this.#connection, this.#closed]);
      clearTimeout(timer);
      if (timeout < 2 ** 31) timer = setTimeout(late, timeout);
      const replied = how(connection);
      replied.catch(() => {});
      return await Promise.race([replied, this.#closed]);
    } catch (error) {
      if (codeOf(error) || error instanceof NoReplyError) throw error;
      const lost = new NoReplyError("No reply: the connection was lost.", { cause: error });
      this.#close(lost);
      throw lost;
    } finally {
      clearTimeout(timer);
    }
  }
}

function closeQuietly(connection: Connection): void {
  try {
    connection.close();
  } catch {
    // It was closed already.
  }
}
