/** What reaches the caller. Other errors of the server are passed on as the library gives them. */

export class LockError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The lock did not become available in time. */
export class NotAcquiredError extends LockError {}

/** The lock ended before its holder released it. */
export class LockLostError extends LockError {}

/** Too many wait for this lock, or on this server. */
export class QueueFullError extends LockError {}

/** The wait could never have ended: owners wait for each other in a circle, or who waits holds some of several locks. */
export class DeadlockError extends LockError {}

/** The user of this connection may not acquire this lock. */
export class NotPermittedError extends LockError {}

/** The key holds something that is no lock. */
export class WrongTypeError extends LockError {}

/** Fewer replicas than wanted have confirmed the grant. The lock was released again. */
export class TooFewReplicasError extends LockError {}

/** No server has replied for as long as it was asked. `cause` is what the library said last. */
export class NoReplyError extends LockError {}

const OWN = new Map<string, typeof LockError>([
  ["QUEUEFULL", QueueFullError],
  ["DEADLOCK", DeadlockError],
  ["NOPERM", NotPermittedError],
  ["WRONGTYPE", WrongTypeError],
]);
const PASSING = new Set(
  "LOADING READONLY UNBLOCKED MOVED ASK TRYAGAIN CLUSTERDOWN MASTERDOWN BUSY NOREPLICAS MISCONF OOM".split(" "),
);

/** The word with which an error of the server begins. Nothing for the libraries' own errors, which are sentences. */
export function codeOf(error: unknown): string {
  return (error instanceof Error && /^[A-Z][A-Z0-9]+(?= |$)/.exec(error.message)?.[0]) || "";
}

/** Whether a server has said it. What a script says may begin with no such word, and each library has a class for that. */
export function isReply(error: unknown): boolean {
  for (let kind: unknown = error; kind instanceof Error; kind = Object.getPrototypeOf(kind)) {
    if (kind.name === "ReplyError" || kind.constructor.name === "ErrorReply") return true;
  }
  return codeOf(error) !== "";
}

/** Whether the same request may succeed later: the table in docs/clients.md. */
export function passes(error: unknown): boolean {
  return error instanceof NoReplyError || PASSING.has(codeOf(error));
}

/** The error as the caller gets it. */
export function forCaller(error: unknown): unknown {
  const own = error instanceof LockError ? undefined : OWN.get(codeOf(error));
  return own ? new own((error as Error).message, { cause: error }) : error;
}
