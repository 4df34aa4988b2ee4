"""The main thread interrupted by signals, around the moment of the grant: neither a hold nor a place is left."""

import os
import random
import signal
import threading
import time
import unittest

import redis
from support import ServerTest, eventually

import redis_lock_client

TIMES = 300
# Longer than any test: what is left is seen.
LEASE = 600.0


class Interrupted(BaseException):
    """What the main thread is interrupted by, as KeyboardInterrupt does."""


class Interrupts(ServerTest):
    def setUp(self):
        super().setUp()
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        self.random = random.Random(seed)
        self.counts = {"held": 0, "cancelled": 0}

    def hold(self, name):
        self.assertTrue(self.direct.execute_command("LOCK.ACQUIRE", name, "PX", 600000, "TOKEN", "holder"))

    def assert_all_gone(self, names):
        def left():
            return [name for name in names if self.direct.execute_command("LOCK.INFO", name) is not None]

        eventually(lambda: not left(), 10)
        self.assertEqual(left(), [])
        print(self.counts, flush=True)
        # Otherwise it has not happened around the grant.
        self.assertGreater(min(self.counts.values()), TIMES / 100)

    def test_300_threads_that_are_interrupted_around_the_grant_leave_nothing(self):
        self.interrupt_around_the_grant(lambda name: [name])

    def test_300_threads_that_are_interrupted_around_the_grant_of_several_locks_leave_nothing(self):
        self.interrupt_around_the_grant(lambda name: [f"{name} free", name])

    def interrupt_around_the_grant(self, names_of):
        """Of each list of names the last is held by somebody else, who releases it."""

        def interrupt(*_):
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        client = redis_lock_client.LockClient(redis.Redis(port=self.server.port))
        self.addCleanup(client.close)
        names = [f"thread-{number}" for number in range(TIMES)]
        for name in names:
            self.hold(name)
            free = threading.Timer(
                0.01 + self.random.random() * 0.004, self.direct.execute_command, ("LOCK.RELEASE", name, "holder")
            )
            free.start()
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.01 + self.random.random() * 0.006)
                with client.lock_all(names_of(name), lease=LEASE):
                    # The grant is over: only what is interrupted before this counts.
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self.counts["held"] += 1
            except Interrupted:
                self.counts["cancelled"] += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            free.join()
        self.assert_all_gone([each for name in names for each in names_of(name)])

    def test_a_wait_that_is_interrupted_twice_leaves_nothing(self):
        self.hold(self.lock)
        self.proxy.faults.add("delay", "LOCK.RELEASE", 1)
        client = redis_lock_client.LockClient(redis.Redis(port=self.proxy.port))
        self.addCleanup(client.close)
        again = [0.1]

        def interrupt(*_):
            # Once more and never again, however long it takes until the timer is stopped.
            if again:
                signal.setitimer(signal.ITIMER_REAL, again.pop())
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with self.assertRaises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                client.acquire(self.lock, lease=LEASE)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        self.assert_becomes(held=1, waiting=0)
        time.sleep(0.5)
        self.direct.execute_command("LOCK.RELEASE", self.lock, "holder")
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
