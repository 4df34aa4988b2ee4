"""redis.asyncio.Redis(host, port) as it comes: the same timeout, repeats and backoff as redis.Redis. A task that is cancelled
closes its connection, and it is not told whether the server had granted the lock: it must send RELEASE.

Before Python 3.12 a task that is cancelled in the turn of the loop in which redis-py has sent something is not cancelled at
all: redis-py sends through asyncio.wait_for, which forgets it then. The task waits on, sends anew after each timeout, and may
be granted the lock. So RELEASE has to come once the task has ended, as in its own `finally`, and not when it was told to.
"""

import asyncio
import os
import random
import time
import unittest

import redis.asyncio
from proxy import EachOnce
from server import LockTest

CANCELLATIONS = 300


class Asyncio(LockTest):
    def run_async(self, what, port=None):
        async def with_clients():
            # Two pools, so that a release never waits for a connection that a waiter uses.
            async with redis.asyncio.Redis(host="127.0.0.1", port=port or self.proxy.port) as client:
                async with redis.asyncio.Redis(host="127.0.0.1", port=self.server.port) as other_pool:
                    await what(client, other_pool)

        asyncio.run(with_clients())

    def test_a_repeated_acquire_is_told_the_same_fence(self):
        async def what(client, _):
            for fault in ("close", "cut", "trickle", "swallow"):
                before = len(self.proxy.replied)
                self.proxy.faults = EachOnce(fault)
                token = f"token-{fault}"
                told = await client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", token)
                replies = {reply for _, reply in self.proxy.replied[before:]}
                self.assertEqual(len(self.proxy.replied) - before, 1 if fault == "trickle" else 2)
                self.assertEqual(len(replies), 1)
                self.assertEqual([each[b"fence"] for each in self.holders()], [told[1]])
                self.assertIsNone(self.direct.execute_command("LOCK.ACQUIRE", self.key, "TOKEN", "other"))
                self.assertEqual(self.release(token), 1)
                self.assert_nothing_left()

        self.run_async(what)

    def test_who_gives_up_a_repeated_wait_by_release_from_another_pool_waits_no_more(self):
        for half_open in (False, True):
            with self.subTest(half_open=half_open):
                self.give_up(half_open)

    def give_up(self, half_open):
        self.hold()
        self.proxy.half_open = half_open
        before = self.proxy.times_sent(b"LOCK.ACQUIRE")

        async def what(client, other_pool):
            task = asyncio.create_task(client.execute_command(
                "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "OWNER", "mine", "BLOCK", 20000))
            try:
                # Not while it sends: see above.
                while self.proxy.times_sent(b"LOCK.ACQUIRE") - before < 2 or self.queue() != [b"mine"]:
                    self.assertFalse(task.done())
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.2)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
            finally:
                await other_pool.execute_command("LOCK.RELEASE", self.key, "mine")

        self.run_async(what)
        self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE") - before, 2)
        info = self.info()
        self.assertEqual((info[b"held"], info[b"waiting"]), (1, 0))
        self.assertEqual(self.release("holder"), 1)
        time.sleep(0.3)
        self.assert_nothing_left()

    def test_cancelling_around_the_grant_and_release_leave_nothing(self):
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        chosen = random.Random(f"{seed}-cancel")
        counts = {"told": 0, "cancelled before the grant": 0, "cancelled, and granted all the same": 0}
        keys = [f"{self.key}-{number}" for number in range(CANCELLATIONS)]

        async def free(key, after, other_pool):
            await asyncio.sleep(after)
            await other_pool.execute_command("LOCK.RELEASE", key, "holder")

        async def one(key, client, other_pool):
            await other_pool.execute_command("LOCK.ACQUIRE", key, "PX", 60000, "TOKEN", "holder")
            task = asyncio.create_task(client.execute_command(
                "LOCK.ACQUIRE", key, "PX", 60000, "TOKEN", "mine", "BLOCK", 0))
            told = None
            try:
                while (await other_pool.execute_command("LOCK.INFO", key))[b"waiting"] == 0:
                    await asyncio.sleep(0.001)
                freed = asyncio.create_task(free(key, chosen.random() * 0.003, other_pool))
                await asyncio.sleep(chosen.random() * 0.006)
                task.cancel()
                try:
                    told = await task
                except asyncio.CancelledError:
                    pass
                await freed
            finally:
                held = await other_pool.execute_command("LOCK.RELEASE", key, "mine")
            if told:
                counts["told"] += 1
                self.assertEqual(held, 1)
            elif held:
                counts["cancelled, and granted all the same"] += 1
            else:
                counts["cancelled before the grant"] += 1

        async def what(client, other_pool):
            for start in range(0, CANCELLATIONS, 5):
                # In every other turn the server does not see the connection of the cancelled task end.
                self.proxy.half_open = start % 2 == 1
                await asyncio.gather(*(one(key, client, other_pool) for key in keys[start : start + 5]))

        self.run_async(what)
        print(f"{CANCELLATIONS} cancellations: {counts}", flush=True)
        time.sleep(0.3)
        self.assertEqual([key for key in keys if self.info(key)], [])
        self.assertEqual(self.direct.info("clients")["blocked_clients"], 0)
        # Otherwise it has not cancelled around the grant.
        self.assertGreater(counts["cancelled, and granted all the same"], 0)

    def test_cancelling_in_any_turn_of_the_loop_and_release_leave_nothing(self):
        async def what(client, other_pool):
            await client.ping()
            cancelled = went_on = granted = 0
            for is_held in (True, False):
                # It has sent the request and waits for the reply after some twenty turns.
                for turns in range(40):
                    key = f"{self.key}-{is_held}-{turns}"
                    if is_held:
                        await other_pool.execute_command("LOCK.ACQUIRE", key, "PX", 60000, "TOKEN", "holder")
                    task = asyncio.create_task(client.execute_command(
                        "LOCK.ACQUIRE", key, "PX", 60000, "TOKEN", "mine", "BLOCK", 200))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    was_done = not task.cancel()
                    try:
                        reply = await task
                        granted += reply is not None
                        went_on += not was_done
                    except asyncio.CancelledError:
                        cancelled += 1
                    finally:
                        await other_pool.execute_command("LOCK.RELEASE", key, "mine")
                    await other_pool.execute_command("LOCK.RELEASE", key, "holder")
                    await asyncio.sleep(0.005)
                    self.assert_nothing_left(key)
            print(f"{cancelled} cancelled, {went_on} went on all the same, {granted} granted", flush=True)
            self.assertGreater(cancelled, 0)
            self.assertGreater(granted, 0)

        # Without the proxy, in which a request may stay so long that its release is there first.
        self.run_async(what, self.server.port)


if __name__ == "__main__":
    unittest.main()
