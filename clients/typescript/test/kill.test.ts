/** A client that is killed at any step leaves no hold beyond its lease, and no place beyond the time of QUEUE. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { QUEUE } from "../src/options.js";
import { Proxy } from "./proxy.js";
import { Server, eventually } from "./support.js";

const LEASE = 600;
const CLAIM_LEASE = 5_000;
// By how much this machine may be late.
const SLACK = 3_000;

interface Step {
  command: string;
  when: "request" | "reply";
  nth?: number;
  /** The lock is held by another before, and becomes free once the program waits. */
  taken?: boolean;
  session?: boolean;
}

const STEPS: Step[] = [
  { command: "LOCK.ACQUIRE", when: "request" },
  { command: "LOCK.ACQUIRE", when: "reply" },
  { command: "LOCK.ACQUIRE", when: "reply", taken: true },
  // It claims its turn.
  { command: "LOCK.ACQUIRE", when: "request", nth: 3, taken: true },
  { command: "LOCK.ACQUIRE", when: "reply", nth: 3, taken: true },
  { command: "LOCK.EXTEND", when: "request", nth: 2 },
  { command: "LOCK.EXTEND", when: "reply" },
  { command: "LOCK.RELEASE", when: "request" },
  { command: "LOCK.RELEASE", when: "reply" },
  { command: "LOCK.ACQUIRE", when: "request", session: true },
  { command: "LOCK.ACQUIRE", when: "reply", session: true },
  { command: "LOCK.ACQUIRE", when: "request", taken: true, session: true },
];

describe("a program that is killed", () => {
  let server: Server;
  before(async () => {
    server = await Server.start();
  });
  after(() => server.stop());

  for (const [number, step] of STEPS.entries()) {
    const { command, when, nth = 1, taken = false, session = false } = step;
    const words = [session && "of a session", taken && "where another holds it", nth > 1 && `number ${nth}`];
    test(`at the ${when} of ${[command, ...words].filter(Boolean).join(" ")} leaves nothing for long`, async () => {
      const name = `kill-${number}`;
      if (taken) await server.call("LOCK.ACQUIRE", name, "PX", 60_000, "TOKEN", "other");
      const proxy = await Proxy.start(server.port);
      const program = spawn(process.execPath, ["--input-type=module", "-e", text(proxy.port, name, session)], { stdio: "ignore" });
      let left = nth;
      let killed = 0;
      proxy.seen = (seen, at) => {
        if (seen !== command || at !== when || killed || --left) return;
        program.kill("SIGKILL");
        killed = performance.now();
      };
      try {
        if (nth > 2) {
          await server.becomes(name, { held: 1, waiting: 1 }, 20_000);
          await eventually(() => proxy.sent.length >= 2);
          await server.call("LOCK.RELEASE", name, "other");
        }
        assert(await eventually(() => killed, 20_000), "it was never there");
        if (taken) await server.call("LOCK.RELEASE", name, "other");
        // By a place whose turn has come it is held for another lease.
        await server.becomes(name, { held: 0 }, LEASE + (session ? 1_000 : CLAIM_LEASE) + SLACK);
        await server.becomes(name, { held: 0, waiting: 0 }, QUEUE + SLACK);
      } finally {
        program.kill("SIGKILL");
        proxy.stop();
      }
    });
  }
});

function text(port: number, name: string, session: boolean): string {
  return `
    import { Redis } from "ioredis";
    import { Locks } from "${new URL("../src/index.js", import.meta.url).href}";
    const locks = new Locks(new Redis(${port}, "127.0.0.1"));
    const held = await locks.acquire("${name}", { lease: ${LEASE}, session: ${session} });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await held.release();
    await new Promise((resolve) => setTimeout(resolve, 20_000));
  `;
}
