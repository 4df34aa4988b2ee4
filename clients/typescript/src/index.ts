/** Locks of redis-lock, on node-redis or ioredis. */

export * from "./errors.js";
export type { GuardOptions, HeldLock } from "./held.js";
export type { AnyClient, IoRedis, NodeRedis } from "./libraries.js";
export { Locks, type LocksOptions, type Work } from "./locks.js";
export type { AcquireOptions } from "./options.js";
export { Redlock } from "./redlock.js";
