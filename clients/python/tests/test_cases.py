"""The cases of clients/cases, which every client passes: with threads and with asyncio, over RESP2 and RESP3."""

import json
import os
import re
import socket
import time
import unittest

import redis
from support import ROOT, Server, ServerTest, Tasks, Threads, eventually

from redis_lock_client import errors

CASES = os.path.join(ROOT, "clients", "cases")
ERRORS = {
    "NOTACQUIRED": errors.NotAcquiredError,
    "LOST": errors.LockLostError,
    "QUEUEFULL": errors.QueueFullError,
    "DEADLOCK": errors.DeadlockError,
    "NOPERM": errors.NotPermittedError,
    "WRONGTYPE": errors.WrongTypeError,
    "REPLICAS": errors.TooFewReplicasError,
    "CONNECTION": (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError),
}
SECONDS = ("lease", "wait", "at_least")


class Case:
    """One case, being run. A method for each kind of step."""

    def __init__(self, test):
        self.test, self.actors, self.clients = test, {}, {}
        self.holds, self.of, self.begun, self.fired = {}, {}, {}, {}

    def run(self, steps):
        for step in steps:
            kind = next(iter(step))
            with self.test.subTest(step=json.dumps(step)):
                getattr(self, "do_" + kind)(step[kind], step)

    def actor(self, name):
        if name not in self.actors:
            self.actors[name] = self.test.kind.actor()
            self.test.addCleanup(self.actors[name].stop)
        return self.actors[name]

    def client(self, user=None):
        if user not in self.clients:
            login = {"username": user, "password": "secret"} if user else {}
            made = self.test.kind(self.test.proxy.port, self.test.protocol, socket_timeout=1, **login)
            self.test.addCleanup(made.close)
            self.clients[user] = made
        return self.clients[user].client

    def value(self, word):
        """`$a.token` and the like."""
        if not isinstance(word, str):
            return word
        if word == "$lock":
            return self.test.lock
        found = re.fullmatch(r"\$(\w+)\.(token|fence)", word)
        return getattr(self.holds[found[1]], found[2]) if found else word

    def do_start(self, name, step):
        options = {key: self.value(value) for key, value in step.get("options", {}).items()}
        for key in SECONDS:
            if key in options:
                options[key] /= 1000
        client, actor = self.client(options.pop("user", None)), self.actor(step.get("by", "A"))
        options.setdefault("wait", 0)
        self.of[name] = actor
        self.begun[name] = actor.submit(client.acquire, self.test.lock, **options)

    def do_finish(self, name, step):
        expected, seconds = step["expect"], step.get("within", 30000) / 1000
        done = self.begun.pop(name)
        error = done.exception(seconds)
        if expected == "cancelled":
            self.test.assertIsInstance(error, self.test.kind.cancelled)
        elif isinstance(expected, dict):
            self.test.assertIsInstance(error, ERRORS[expected["error"]])
        elif error:
            raise error
        elif expected == "none":
            self.test.assertIsNone(done.result())
        else:
            self.test.assertIsNotNone(done.result(), "not available")
            self.holds[name], self.fired[name] = done.result(), []

            async def listen():
                done.result().on_lost(lambda: self.fired[name].append(1))

            self.of[name].submit(listen if self.test.kind is Tasks else lambda: done.result().on_lost(
                lambda: self.fired[name].append(1))).result(5)  # fmt: skip

    def do_acquire(self, name, step):
        self.do_start(name, step)
        self.do_finish(name, step)

    def do_cancel(self, name, step):
        self.of[name].cancel()

    def do_extend(self, name, step):
        lease = step.get("options", {}).get("lease")
        done = self.of[name].submit(self.holds[name].extend, lease and lease / 1000).result(30)
        self.test.assertEqual(done, step["expect"])

    def do_release(self, name, step):
        self.test.assertEqual(self.of[name].submit(self.holds[name].release).result(60), step["expect"])

    def do_held(self, name, step):
        held = self.holds[name]
        self.test.assertEqual(held.held, step["expect"])
        self.test.assertEqual(held.remaining > 0, step["expect"])

    def do_lost(self, name, step):
        held = self.holds[name]
        self.test.assertTrue(eventually(held.lost.is_set, step["within"] / 1000), "not told that it is lost")
        self.test.assertTrue(eventually(lambda: self.fired[name], 1))
        time.sleep(0.05)
        self.test.assertEqual(self.fired[name], [1])

    def do_not_lost(self, name, step):
        self.test.assertFalse(self.holds[name].lost.is_set() or self.fired[name])

    def do_remaining(self, name, step):
        remaining = self.holds[name].remaining * 1000
        self.test.assertTrue(step["from"] <= remaining <= step["to"], remaining)

    def do_rising(self, names, step):
        fences = [self.holds[name].fence for name in names]
        self.test.assertEqual(fences, sorted(set(fences)))

    def do_same(self, names, step):
        self.test.assertEqual(len({self.holds[name].fence for name in names}), 1)

    def do_redis(self, words, step):
        reply = self.test.direct.execute_command(*map(self.value, words))
        if "expect" in step:
            self.test.assertEqual(reply, step["expect"])

    def do_until(self, wanted, step):
        default = f"{socket.gethostname()}:{os.getpid()}"
        wanted = {
            key: [default if each == "default" else each for each in value] if isinstance(value, list) else value
            for key, value in wanted.items()
        }
        self.test.assert_becomes(step.get("within", 8000) / 1000, **wanted)

    def do_pause(self, milliseconds, step):
        time.sleep(milliseconds / 1000)

    def do_fault(self, fault, step):
        self.test.proxy.faults.add(fault, step["of"], step.get("times", 1))

    def do_cut(self, _, step):
        self.test.proxy.cut()

    def do_stall(self, stalled, step):
        self.test.proxy.faults.stalled = stalled

    def do_sent(self, name, step):
        sent = self.test.proxy.times_sent
        enough = eventually(lambda: sent(name.encode()) >= step["at_least"], step["within"] / 1000)
        self.test.assertTrue(enough, f"sent {sent(name.encode())} times")


class CasesTest:
    kind = protocol = None

    def with_replica(self):
        replica = Server()
        self.addCleanup(replica.stop)
        with redis.Redis(port=replica.port) as client:
            client.replicaof("127.0.0.1", self.server.port)
            self.assertTrue(eventually(lambda: client.info("replication").get("master_link_status") == "up", 20))
        # The master counts it a little later.
        self.direct.set("replicated", "yes")
        self.assertTrue(eventually(lambda: self.direct.wait(1, 1000) == 1, 20))

    def run_case(self, case):
        if "replica" in case.get("needs", ()):
            self.with_replica()
        Case(self).run(case["steps"])
        self.proxy.faults.stalled = False
        self.assert_nothing_left(seconds=8 + case.get("leaves", 0) / 1000)


def add_cases():
    for file in sorted(os.listdir(CASES)):
        if file.endswith(".json"):
            with open(os.path.join(CASES, file)) as text:
                cases = json.load(text)
            for case in cases:
                name = "test_" + re.sub(r"\W+", "_", f"{file[:-5]} {case['name']}")
                setattr(CasesTest, name, lambda self, case=case: self.run_case(case))


add_cases()


class ThreadsResp2(CasesTest, ServerTest):
    kind, protocol = Threads, 2


class ThreadsResp3(CasesTest, ServerTest):
    kind, protocol = Threads, 3


class TasksResp2(CasesTest, ServerTest):
    kind, protocol = Tasks, 2


class TasksResp3(CasesTest, ServerTest):
    kind, protocol = Tasks, 3


if __name__ == "__main__":
    unittest.main()
