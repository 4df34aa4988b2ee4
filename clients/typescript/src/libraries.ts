/**
 * The two libraries, each seen as one that opens connections with the settings of the client it is given.
 *
 * Nothing is sent on the connections of that client: what its other users send would hold up a release. Ours never
 * connect again by themselves and repeat nothing, since `steps` does that, within a lease.
 */

import type { Word } from "./options.js";

/** A client of node-redis: createClient() or createCluster(). */
export interface NodeRedis {
  duplicate(...args: never[]): unknown;
  sSubscribe(...args: never[]): unknown;
}

/** A client of ioredis: Redis, also one of Sentinels, or Cluster. */
export interface IoRedis {
  duplicate(...args: never[]): unknown;
  ssubscribe(...args: never[]): unknown;
}

export type AnyClient = NodeRedis | IoRedis;

/** What a connection tells. */
export interface Listener {
  closed(error?: unknown): void;
  message(channel: string, text: string): void;
  /** The server has ended subscriptions here, because a slot has moved. */
  moved(): void;
}

export interface Connection {
  /** Fulfilled when it can be used. */
  ready: Promise<unknown>;
  send(words: Word[]): Promise<unknown>;
  subscribe(channel: string): Promise<unknown>;
  unsubscribe(channel: string): Promise<unknown>;
  close(): void;
}

export interface Library {
  /** How long the settings let a command wait for its reply. */
  timeout: number | undefined;
  /** The masters of a cluster, each as `host:port`, or null for a single server. */
  masters(): string[] | null;
  /** The master that has this slot, as far as the library knows. */
  owner(slot: number): string | undefined;
  open(address: string | null, listener: Listener): Promise<Connection>;
}

export function libraryOf(client: AnyClient): Library {
  if ("sSubscribe" in client) {
    return "nodeByAddress" in client ? nodeRedisCluster(client as never) : nodeRedis(client as never);
  }
  if ("ssubscribe" in client) {
    return "slots" in client ? ioRedisCluster(client as never) : ioRedis(client as never);
  }
  throw new TypeError("locks need a client of node-redis (createClient, createCluster) or of ioredis (Redis, Cluster)");
}

export function splitAddress(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

interface NodeRedisClient {
  options?: { socket?: { socketTimeout?: number }; commandOptions?: { timeout?: number } };
  duplicate(overrides: object): NodeRedisClient;
  on(event: string, listener: (...args: unknown[]) => void): NodeRedisClient;
  connect(): Promise<unknown>;
  sendCommand(words: Word[]): Promise<unknown>;
  sSubscribe(channel: string, listener: (text: string, channel: string) => void): Promise<unknown>;
  sUnsubscribe(channel: string): Promise<unknown>;
  destroy(): void;
}

interface NodeRedisNode {
  address: string;
}

interface NodeRedisCluster {
  masters: NodeRedisNode[];
  slots: ({ master: NodeRedisNode } | undefined)[];
  nodeByAddress: Map<string, NodeRedisNode>;
  nodeClient(node: NodeRedisNode): Promise<NodeRedisClient>;
}

function nodeRedis(client: NodeRedisClient): Library {
  return {
    timeout: client.options?.socket?.socketTimeout ?? client.options?.commandOptions?.timeout,
    masters: () => null,
    owner: () => undefined,
    open: async (_, listener) => openNodeRedis(client, {}, listener),
  };
}

function nodeRedisCluster(cluster: NodeRedisCluster): Library {
  return {
    timeout: undefined,
    masters: () => cluster.masters.map((node) => node.address),
    owner: (slot) => cluster.slots[slot]?.master.address,
    async open(address, listener) {
      const known = cluster.nodeByAddress.get(address ?? "");
      const node = known ?? cluster.masters[0];
      if (!node) throw new Error("The cluster client is not connected");
      return openNodeRedis(await cluster.nodeClient(node), known ? {} : splitAddress(address!), listener);
    },
  };
}

function openNodeRedis(like: NodeRedisClient, place: object, listener: Listener): Connection {
  const client = like.duplicate({
    socket: { ...like.options?.socket, ...place, reconnectStrategy: false, socketTimeout: undefined },
    commandOptions: {},
    clientSideCache: undefined,
    keyPrefix: undefined,
    maintNotifications: "disabled",
    pingInterval: 0,
    readonly: false,
  });
  client.on("error", listener.closed);
  client.on("end", () => listener.closed());
  client.on("sharded-channel-moved", () => listener.moved());
  return {
    ready: client.connect(),
    send: (words) => client.sendCommand(words),
    subscribe: (channel) => client.sSubscribe(channel, (text, from) => listener.message(from, text)),
    unsubscribe: (channel) => client.sUnsubscribe(channel),
    close: () => client.destroy(),
  };
}

interface IoRedisClient {
  options: { commandTimeout?: number; socketTimeout?: number };
  duplicate(overrides: object): IoRedisClient;
  on(event: string, listener: (...args: never[]) => void): IoRedisClient;
  connect(): Promise<unknown>;
  call(...words: Word[]): Promise<unknown>;
  ssubscribe(channel: string): Promise<unknown>;
  sunsubscribe(channel: string): Promise<unknown>;
  disconnect(): void;
}

interface IoRedisCluster {
  slots: (string[] | undefined)[];
  options: { natMap?: Record<string, { host: string; port: number }> | ((key: string) => unknown) };
  nodes(role: "master"): (IoRedisClient & { options: { host: string; port: number } })[];
}

function ioRedis(client: IoRedisClient): Library {
  return {
    timeout: client.options.commandTimeout ?? client.options.socketTimeout,
    masters: () => null,
    owner: () => undefined,
    open: async (_, listener) => openIoRedis(client, {}, listener),
  };
}

function ioRedisCluster(cluster: IoRedisCluster): Library {
  return {
    timeout: undefined,
    masters: () => cluster.nodes("master").map((node) => `${node.options.host}:${node.options.port}`),
    owner: (slot) => cluster.slots[slot]?.[0],
    async open(address, listener) {
      const some = cluster.nodes("master")[0];
      if (!some) throw new Error("The cluster client is not connected");
      const map = cluster.options.natMap;
      const mapped = typeof map === "function" ? map(address!) : map?.[address!];
      return openIoRedis(some, (mapped as object | null) ?? splitAddress(address!), listener);
    },
  };
}

function openIoRedis(like: IoRedisClient, place: object, listener: Listener): Connection {
  const client = like.duplicate({
    ...place,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    blockingTimeout: undefined,
    commandTimeout: undefined,
    enableAutoPipelining: false,
    enableReadyCheck: false,
    keyPrefix: "",
    lazyConnect: true,
    monitor: false,
    readOnly: false,
    reconnectOnError: null,
    retryStrategy: null,
    socketTimeout: undefined,
    stringNumbers: false,
  });
  let last: unknown;
  client.on("error", (error: unknown) => (last = error));
  client.on("end", () => listener.closed(last));
  client.on("smessage", listener.message);
  client.on("moved", listener.moved);
  return {
    ready: client.connect().catch((error: unknown) => {
      // It says only that the connection is closed, and not why.
      throw last ?? error;
    }),
    send: (words) => client.call(...words),
    subscribe: (channel) => client.ssubscribe(channel),
    unsubscribe: (channel) => client.sunsubscribe(channel),
    close: () => client.disconnect(),
  };
}
