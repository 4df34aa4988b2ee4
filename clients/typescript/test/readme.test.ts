/** The programs of README.md, as they are there but for the ports, with the package as npm packs it. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { ROOT, Server } from "./support.js";

const run = promisify(execFile);
const PACKAGE = join(ROOT, "clients/typescript");
const programs = [...readFileSync(join(PACKAGE, "README.md"), "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map((each) => each[1]!);

let servers: Server[];
const folder = mkdtempSync(join(tmpdir(), "redis-lock-ts-readme-"));

before(async () => {
  servers = await Promise.all(Array.from({ length: 5 }, () => Server.start()));
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "redis-lock-client"), { recursive: true });
  for (const name of ["redis", "@redis", "ioredis", "@types", "undici-types"]) {
    symlinkSync(join(PACKAGE, "node_modules", name), join(modules, name));
  }
  await run("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: PACKAGE });
  const packed = join(folder, readdirSync(folder).find((each) => each.endsWith(".tgz"))!);
  await run("tar", ["-xzf", packed, "-C", join(modules, "redis-lock-client"), "--strip-components=1"]);
  writeFileSync(join(folder, "package.json"), '{"type": "module"}');
});
after(() => {
  servers.forEach((each) => each.stop());
  rmSync(folder, { recursive: true, force: true });
});

/** What it prints. Its types are checked too. */
async function output(name: string, program: string, kind = ""): Promise<string> {
  const [first] = servers;
  const text = program
    .replace("createClient()", `createClient({ url: "redis://127.0.0.1:${first!.port}" })`)
    .replace("new Redis()", `new Redis(${first!.port})`)
    .replace('["a", "b", "c", "d", "e"].map((host) => new Redis({ host }))', () => {
      return `[${servers.map((each) => each.port).join(", ")}].map((port) => new Redis({ port }))`;
    });
  const source = join(folder, `${name}.${kind}ts`);
  writeFileSync(source, text);
  const strict = "--strict --skipLibCheck --target es2022 --module nodenext".split(" ");
  const tsc = join(PACKAGE, "node_modules/typescript/bin/tsc");
  await run(process.execPath, [tsc, ...strict, source], { cwd: folder }).catch((error: { stdout: string }) =>
    assert.fail(error.stdout),
  );
  return (await run(process.execPath, [join(folder, `${name}.${kind}js`)], { timeout: 60_000 })).stdout;
}

test("there are four programs, and the first has ten lines", () => {
  assert.equal(programs.length, 4);
  assert(programs[0]!.trimEnd().split("\n").length <= 10);
});

test("the program for node-redis holds the lock", async () => {
  assert.match(await output("node-redis", programs[0]!), /^working with fence \d{16} for \d{5} ms or longer\n$/);
  await servers[0]!.becomes("order:44", { held: 0, waiting: 0 });
});

test("the program for ioredis holds the lock", async () => {
  assert.match(await output("ioredis", programs[1]!), /^working with fence \d{16}\n$/);
  await servers[0]!.becomes("order:44", { held: 0, waiting: 0 });
});

test("CommonJS has it by require, and it is the same that import gives", async () => {
  const program = `
    import { createRequire } from "node:module";
    import { createClient } from "redis";
    import * as imported from "redis-lock-client";
    const required: typeof imported = createRequire(import.meta.url)("redis-lock-client");
    console.log(required.LockLostError === imported.LockLostError);
  `;
  assert.equal(await output("both", program), "true\n");
  const common = `
    import redis = require("redis");
    import { Locks } from "redis-lock-client";
    async function main(): Promise<void> {
      const client = await redis.createClient().connect();
      const locks = new Locks(client);
      await locks.using("order:44", (_, held) => console.log(typeof require, held.held));
      await locks.close();
      client.destroy();
    }
    void main();
  `;
  assert.equal(await output("common", common, "c"), "function true\n");
});

test("the program for ioredis says when somebody else is at it", async () => {
  await servers[0]!.call("LOCK.ACQUIRE", "order:44", "PX", 60_000, "TOKEN", "other");
  assert.equal(await output("other", programs[1]!.replace("20_000", "200")), "somebody else is at it\n");
  await servers[0]!.call("LOCK.RELEASE", "order:44", "other");
});

test("the program for several locks moves what they guard", async () => {
  await servers[0]!.call("SET", "total:{7}:a", 50);
  assert.equal(await output("several", programs[2]!), "left of it: 40\n");
  assert.equal(await servers[0]!.call("GET", "total:{7}:b"), "10");
  await servers[0]!.becomes("account:{7}:b", { held: 0, waiting: 0 });
});

test("the program for Redlock ends well", async () => {
  assert.equal(await output("redlock", programs[3]!), "");
  await servers[4]!.becomes("order:44", { held: 0, waiting: 0 });
});
