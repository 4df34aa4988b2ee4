/**
 * A proxy on the loopback that loses replies. It reads requests and replies as RESP, so that a fault hits the reply of one
 * LOCK.* command and not the handshake of the library. What is lost is always the reply: the server has run the command.
 *
 *   swallow   it is not delivered and the connection stays open; nothing comes on it any more
 *   close     the connection is closed instead
 *   cut       half of it is delivered, then the connection is closed
 *   delay     it comes late
 *   trickle   it comes byte by byte
 */

import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export type Fault = "swallow" | "close" | "cut" | "delay" | "trickle";

const LATE = 300;
// What a subscriber is sent: with RESP2 an array, like a reply.
const MESSAGE = /^(>|\*3\r\n\$\d+\r\n(smessage|ssubscribe|sunsubscribe)\r\n)/;

/** Where the RESP value that begins at `at` ends, or -1 while it is not complete. */
function endOfValue(data: Buffer, at = 0): number {
  const line = data.indexOf("\r\n", at);
  if (line < 0) return -1;
  const kind = String.fromCharCode(data[at]!);
  const size = Number(data.toString("latin1", at + 1, line));
  let end = line + 2;
  if ("$=!".includes(kind) && size >= 0) return end + size + 2 <= data.length ? end + size + 2 : -1;
  if ("*~>%|".includes(kind)) {
    for (let left = "%|".includes(kind) ? size * 2 : size; left > 0; left--) {
      end = endOfValue(data, end);
      if (end < 0) return -1;
    }
  }
  return end;
}

/** Gives each whole value of what comes to `take`. */
function values(side: Socket, take: (value: Buffer) => void): void {
  let data = Buffer.alloc(0);
  side.on("data", (more: Buffer) => {
    data = Buffer.concat([data, more]);
    for (let end; data.length && (end = endOfValue(data)) > 0; data = data.subarray(end)) take(data.subarray(0, end));
  });
}

const commandOf = (request: Buffer): string => request.toString("latin1").split("\r\n")[2]!.toUpperCase();

class Connection {
  private readonly server: Socket;
  /** The commands that have no reply yet. */
  private readonly asked: string[] = [];
  private mute = false;
  /** Replies are delivered one after the other. */
  private last: Promise<void> = Promise.resolve();

  constructor(
    private readonly proxy: Proxy,
    private readonly client: Socket,
  ) {
    this.server = connect({ port: proxy.serverPort, host: "127.0.0.1", noDelay: true });
    for (const side of [client, this.server]) {
      side.on("error", () => {});
      side.on("close", () => this.close());
    }
    values(client, (request) => {
      const command = commandOf(request);
      if (command.startsWith("LOCK.")) {
        proxy.sent.push(command);
        proxy.seen(command, "request");
      }
      // A subscription is confirmed by a message.
      if (!command.endsWith("SUBSCRIBE")) this.asked.push(command);
      this.server.write(request);
    });
    values(this.server, (reply) => {
      const command = MESSAGE.test(reply.toString("latin1", 0, 40)) ? "" : (this.asked.shift() ?? "");
      if (command) proxy.seen(command, "reply");
      const fault = proxy.faultOf(command);
      this.last = this.last.then(() => this.deliver(Buffer.from(reply), fault));
    });
  }

  private async deliver(reply: Buffer, fault: Fault | undefined): Promise<void> {
    if (fault === "swallow") this.mute = true;
    if (this.mute || this.client.destroyed) return;
    if (fault === "close") return this.close();
    if (fault === "cut") {
      this.client.end(reply.subarray(0, Math.max(1, reply.length >> 1)), () => this.close());
      return;
    }
    if (fault === "delay") await sleep(LATE);
    if (fault === "trickle") {
      for (const byte of reply) {
        this.client.write(Buffer.of(byte));
        await sleep(LATE / 50);
      }
      return;
    }
    this.client.write(reply);
  }

  close(): void {
    this.proxy.connections.delete(this);
    this.client.destroy();
    this.server.destroy();
  }
}

export class Proxy {
  readonly connections = new Set<Connection>();
  readonly sent: string[] = [];
  /** No reply to a LOCK.* command comes any more. */
  stalled = false;
  /** Draws a fault for the reply to a LOCK.* command. */
  draw: () => Fault | undefined = () => undefined;
  /** Told each LOCK.* command before the server has it, and before its reply is told. */
  seen: (command: string, when: "request" | "reply") => void = () => {};
  private readonly faults: [fault: Fault, command: string][] = [];

  private constructor(
    readonly serverPort: number,
    private readonly listener: Server,
  ) {
    listener.on("connection", (client) => {
      client.setNoDelay(true);
      this.connections.add(new Connection(this, client));
    });
  }

  static async start(serverPort: number): Promise<Proxy> {
    const listener = createServer();
    await new Promise<void>((listening) => listener.listen(0, "127.0.0.1", listening));
    return new Proxy(serverPort, listener);
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  /** For the next replies to this command. */
  add(fault: Fault, command: string, times: number): void {
    for (let each = 0; each < times; each++) this.faults.push([fault, command]);
  }

  faultOf(command: string): Fault | undefined {
    if (this.stalled && command.startsWith("LOCK.")) return "swallow";
    const next = this.faults.findIndex(([, of]) => of === command);
    if (next >= 0) return this.faults.splice(next, 1)[0]![0];
    return command.startsWith("LOCK.") ? this.draw() : undefined;
  }

  /** Closes connections, on both sides: all, or the one that is chosen. */
  cut(choose?: (some: Connection[]) => Connection | undefined): void {
    const all = [...this.connections];
    for (const each of choose ? [choose(all)] : all) each?.close();
  }

  stop(): void {
    this.listener.close();
    this.cut();
  }
}
