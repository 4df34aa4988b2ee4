"""Giving up around the moment of the grant leaves neither a hold nor a place."""

import asyncio
import os
import random
import signal
import threading
import time
import unittest

import redis.asyncio
from support import Interrupted, ServerTest, eventually

import redis_lock_client
import redis_lock_client.asyncio

TIMES = 300
# Longer than any test: what is left is seen.
LEASE = 600.0


class Late:
    """Requests for the lock reach the server late, though the client has closed the connection."""

    def of_request(self, words):
        return "late" if words[0] == b"LOCK.ACQUIRE" else None

    def of_reply(self, words):
        return None


class Cancellation(ServerTest):
    def setUp(self):
        super().setUp()
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        self.random = random.Random(seed)
        self.counts = {"held": 0, "cancelled": 0}

    def hold(self, name):
        self.assertTrue(self.direct.execute_command("LOCK.ACQUIRE", name, "PX", 600000, "TOKEN", "holder"))

    def assert_all_gone(self, names):
        left = [name for name in names if not eventually(lambda: self.direct.execute_command("LOCK.INFO", name) is None, 3)]
        self.assertEqual(left, [])
        print(self.counts, flush=True)
        # Otherwise it has not happened around the grant.
        self.assertGreater(min(self.counts.values()), TIMES / 100)

    def test_300_tasks_that_are_cancelled_around_the_grant_leave_nothing(self):
        names = [f"task-{number}" for number in range(TIMES)]
        asyncio.run(self.cancel_tasks(names, lambda task: task.cancel()))
        self.assert_all_gone(names)

    def test_300_tasks_that_are_cancelled_twice_around_the_grant_leave_nothing(self):
        async def twice(task):
            task.cancel()
            await asyncio.sleep(self.random.random() * 0.002)
            task.cancel()

        names = [f"twice-{number}" for number in range(TIMES)]
        asyncio.run(self.cancel_tasks(names, twice))
        self.assert_all_gone(names)

    def test_300_sessions_that_are_cancelled_around_the_grant_leave_nothing(self):
        names = [f"session-{number}" for number in range(TIMES)]
        asyncio.run(self.cancel_tasks(names, lambda task: task.cancel(), session=True))
        self.assert_all_gone(names)

    async def cancel_tasks(self, names, cancel, **how):
        async def one(name):
            self.hold(name)
            task = asyncio.create_task(work(name))
            while self.info(name)["waiting"] == 0:
                await asyncio.sleep(0.001)
            # Away from the moment at which it has subscribed.
            await asyncio.sleep(0.01)
            freed = asyncio.create_task(free(name, self.random.random() * 0.004))
            await asyncio.sleep(self.random.random() * 0.012)
            cancelled = cancel(task)
            if asyncio.iscoroutine(cancelled):
                await cancelled
            await asyncio.gather(task, return_exceptions=True)
            self.counts["cancelled" if task.cancelled() else "held"] += 1
            await freed

        async def work(name):
            async with client.lock(name, lease=LEASE, **how):
                pass

        async def free(name, after):
            await asyncio.sleep(after)
            await asyncio.to_thread(self.direct.execute_command, "LOCK.RELEASE", name, "holder")

        some = redis.asyncio.Redis(port=self.server.port)
        async with redis_lock_client.asyncio.LockClient(some) as client:
            for start in range(0, TIMES, 5):
                await asyncio.gather(*(one(name) for name in names[start : start + 5]))
        await some.aclose()

    def test_a_request_that_is_on_its_way_when_its_task_is_cancelled_is_not_read_after_the_release(self):
        async def cancel():
            some = redis.asyncio.Redis(port=self.proxy.port)
            async with redis_lock_client.asyncio.LockClient(some) as client:
                # Connected, so that the request is what is under way.
                await client.acquire("another", wait=0)
                self.proxy.faults, self.proxy.half_open, self.proxy.seconds = Late(), True, 0.5
                task = asyncio.create_task(client.acquire(self.lock, lease=LEASE, **how))
                await asyncio.sleep(0.2)
                self.assertEqual(self.proxy.counts.get("late"), number)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                self.proxy.faults = None
            await some.aclose()

        for number, how in enumerate(({"wait": 0}, {"wait": 5}), 1):
            with self.subTest(how):
                asyncio.run(cancel())
                time.sleep(1)
                self.assertEqual(self.info()["held"] + self.info()["waiting"], 0)

    def test_300_threads_that_are_interrupted_around_the_grant_leave_nothing(self):
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
                with client.lock(name, lease=LEASE):
                    # The grant is over: only what is interrupted before this counts.
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self.counts["held"] += 1
            except Interrupted:
                self.counts["cancelled"] += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            free.join()
        self.assert_all_gone(names)

    def test_a_wait_that_is_interrupted_twice_leaves_nothing(self):
        self.hold(self.lock)
        self.proxy.faults.add("delay", "LOCK.RELEASE", 1)
        client = redis_lock_client.LockClient(redis.Redis(port=self.proxy.port))
        self.addCleanup(client.close)

        def interrupt(*_):
            raise Interrupted

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with self.assertRaises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.3, 0.1)
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
