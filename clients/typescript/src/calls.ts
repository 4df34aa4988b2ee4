/**
 * Hears whose turn it is: the messages of one server, for all who wait there.
 *
 * A message only makes prompt what repeating makes right. So whatever goes wrong here ends in somebody asking once more.
 */

import { Link } from "./link.js";
import type { Library } from "./libraries.js";
import { PAUSE } from "./options.js";
import { sleep } from "./steps.js";

// How long a ticket is remembered that was called before the reply that names it, and a subscription that nobody uses.
const KEPT = 5_000;

export class Calls {
  #link: Link | undefined;
  #heard = false;
  #closed = false;
  /** By name: whether the subscription has not stood yet when this was asked for. */
  readonly #subscribed = new Map<string, Promise<boolean>>();
  readonly #users = new Map<string, number>();
  /** By name and ticket: what wakes who waits for it. */
  readonly #waiting = new Map<string, () => void>();
  readonly #early = new Set<string>();

  constructor(
    private readonly library: Library,
    private readonly address: string | null,
    private readonly timeout: number,
  ) {}

  /** Whether it stands only now, so that a call may have been missed. */
  subscribe(name: string): Promise<boolean> {
    const before = this.#subscribed.get(name);
    if (before) return before;
    const link = (this.#link ??= new Link(this.library, this.address, this.timeout, (lost) => this.#lost(lost), {
      message: (channel, text) => this.#call(key(channel, text)),
      // Nobody says which slot it was.
      moved: () => this.#link?.close(),
    }));
    const stands = link.subscribe(name).then(
      () => (this.#heard = true),
      () => false,
    );
    this.#subscribed.set(name, stands);
    this.#forgetLater(name);
    void stands.then((confirmed) => {
      if (this.#subscribed.get(name) !== stands) return;
      const stood = Promise.resolve(false);
      this.#subscribed.set(name, stood);
      // Without the right to it, or while it cannot be had, repeats are enough.
      if (!confirmed) setTimeout(() => this.#subscribed.get(name) === stood && this.#subscribed.delete(name), KEPT).unref();
    });
    return stands;
  }

  /** Until it is called, or a call may have been missed, or the time is over. */
  async wait(name: string, ticket: string, time: number, signal?: AbortSignal): Promise<void> {
    const called = key(name, ticket);
    if (this.#early.delete(called)) return;
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#waiting.set(called, wake);
    signal?.addEventListener("abort", wake);
    if (signal?.aborted) wake();
    // At random, or many would come to ask in step.
    await sleep(time / 2 + (Math.random() * time) / 2, woken.signal);
    signal?.removeEventListener("abort", wake);
    if (this.#waiting.get(called) === wake) this.#waiting.delete(called);
    const users = this.#users.get(name)! - 1;
    if (users) this.#users.set(name, users);
    else {
      this.#users.delete(name);
      this.#forgetLater(name);
    }
  }

  reconnect(): void {
    this.#link?.close();
  }

  close(): void {
    this.#closed = true;
    this.#link?.close();
  }

  #call(called: string): void {
    const wake = this.#waiting.get(called);
    if (wake) return wake();
    this.#early.add(called);
    setTimeout(() => this.#early.delete(called), KEPT).unref();
  }

  #forgetLater(name: string): void {
    setTimeout(() => {
      if (this.#users.has(name) || !this.#subscribed.delete(name)) return;
      this.#link?.unsubscribe(name).catch(() => {});
    }, KEPT).unref();
  }

  /** All who wait ask again, and subscribe again by that. */
  #lost(link: Link): void {
    if (this.#link === link) this.#link = undefined;
    this.#subscribed.clear();
    if (this.#heard && !this.#closed) setTimeout(() => this.#waiting.forEach((wake) => wake()), PAUSE).unref();
    this.#heard = false;
  }
}

const key = (name: string, ticket: string): string => `${ticket} ${name}`;
