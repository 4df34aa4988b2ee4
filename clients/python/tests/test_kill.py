"""A client that is killed at any step leaves no hold beyond its lease, and no place beyond the time of QUEUE."""

import os
import subprocess
import sys
import time
import unittest

import redis
from support import HERE, ServerTest, eventually

import redis_lock_client
from redis_lock_client._steps import QUEUE

LEASE = 0.6
CLAIM_LEASE = 5
# By how much this machine may be late.
SLACK = 2


class Killer:
    """Kills the program when a command of its is seen, before the server has it or before its reply is told."""

    def __init__(self, name, before, nth):
        self.name, self.before, self.left, self.kill, self.killed = name, before, nth, None, None

    def see(self, words, before):
        if before == self.before and words[0] == self.name and self.kill:
            self.left -= 1
            if self.left == 0:
                self.kill()
                self.killed = time.monotonic()

    def of_request(self, words):
        self.see(words, True)

    def of_reply(self, words):
        self.see(words, False)


class Kill(ServerTest):
    def program(self, kind):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        program = subprocess.Popen(
            [sys.executable, "-B", os.path.join(HERE, "program.py"), kind, str(self.proxy.port), self.lock, str(LEASE)],
            env=environment)  # fmt: skip

        def stop():
            program.kill()
            program.wait()

        self.addCleanup(stop)
        return stop

    def kill_at(self, kind, name, before, nth=1):
        killer = self.proxy.faults = Killer(name, before, nth)
        killer.kill = self.program(kind)
        self.assertTrue(eventually(lambda: killer.killed, 20), "it was never there")
        self.assert_soon_free(killer.killed)
        self.proxy.faults = None

    def assert_soon_free(self, killed):
        """Nobody holds it, but by a place whose turn has come: that one has another lease."""
        within = LEASE + CLAIM_LEASE + SLACK
        self.assertTrue(eventually(lambda: self.info()["held"] == 0, killed + within - time.monotonic()), self.info())
        self.assertLess(time.monotonic() - killed, within)
        with redis_lock_client.LockClient(redis.Redis(port=self.server.port)) as client:
            client.acquire(self.lock, wait=SLACK, level=1).release()
        self.assert_nothing_left()

    def at_every_step(self, kind):
        for name in (b"LOCK.ACQUIRE", b"LOCK.EXTEND", b"LOCK.RELEASE"):
            if name == b"LOCK.EXTEND" and "session" in kind:
                # The lease of a session is a second: the program is done before it would be renewed.
                continue
            for before in (True, False):
                for nth in (1, 2):
                    with self.subTest(name=name, before=before, nth=nth):
                        self.kill_at(kind, name, before, nth)

    def test_a_client_with_threads_that_is_killed_at_any_step_leaves_nothing_beyond_its_lease(self):
        self.at_every_step("threads")

    def test_a_client_with_tasks_that_is_killed_at_any_step_leaves_nothing_beyond_its_lease(self):
        self.at_every_step("tasks")

    def test_a_session_that_is_killed_at_any_step_leaves_nothing(self):
        self.at_every_step("threads session")

    def kill_while_it_waits(self, kind):
        self.direct.execute_command("LOCK.ACQUIRE", self.lock, "PX", 60000, "TOKEN", "other")
        kill = self.program(kind)
        self.assert_becomes(20, waiting=1)
        time.sleep(0.2)
        kill()
        return time.monotonic()

    def test_a_client_that_is_killed_while_it_waits_loses_its_place_after_queue(self):
        for kind in ("threads", "tasks"):
            with self.subTest(kind):
                killed = self.kill_while_it_waits(kind)
                self.assertTrue(eventually(lambda: self.info()["waiting"] == 0, QUEUE + 2 * SLACK))
                self.assertLess(time.monotonic() - killed, QUEUE + 2 * SLACK)
                self.direct.execute_command("LOCK.RELEASE", self.lock, "other")
                self.assert_nothing_left()

    def test_a_client_that_is_killed_while_it_waits_holds_up_the_next_for_the_claim_lease(self):
        for kind in ("threads", "tasks"):
            with self.subTest(kind):
                killed = self.kill_while_it_waits(kind)
                self.direct.execute_command("LOCK.RELEASE", self.lock, "other")
                self.assert_soon_free(killed)


if __name__ == "__main__":
    unittest.main()
