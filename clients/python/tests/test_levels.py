"""Levels of a hold: what they take from it, in which order they end, and what is left when one is given up."""

import asyncio
import gc
import time
import unittest

import redis
import redis.asyncio
from support import ServerTest, eventually

import redis_lock_client
import redis_lock_client.asyncio
from redis_lock_client import LockLostError


class Levels(ServerTest):
    def setUp(self):
        super().setUp()
        self.client = redis_lock_client.LockClient(redis.Redis(port=self.proxy.port))
        self.addCleanup(self.client.close)

    def with_asyncio(self, work):
        async def main():
            library = redis.asyncio.Redis(port=self.proxy.port)
            async with redis_lock_client.asyncio.LockClient(library) as client:
                await asyncio.wait_for(work(client), 30)

        asyncio.run(main())

    def level(self):
        info = self.direct.execute_command("LOCK.INFO", self.lock)
        return info[b"holders"][0][b"level"] if info else 0

    def test_a_level_of_a_session_is_on_its_connection(self):
        outer = self.client.acquire(self.lock, session=True, delay=60.0)
        inner = self.client.acquire(self.lock, session=True)
        plain = self.client.acquire(self.lock)
        self.assertTrue(plain.release() and inner.release())
        del plain, inner
        gc.collect()
        time.sleep(0.3)
        self.assertTrue(outer.held)
        self.assertEqual(self.level(), 1)
        self.client.acquire(self.lock)
        self.proxy.cut()
        self.assertTrue(outer.lost.wait(5))
        with self.assertRaises(LockLostError):
            self.client.acquire(self.lock)
        self.assertEqual(self.direct.execute_command("LOCK.BREAK", self.lock), 1)

    def test_a_session_whose_connection_breaks_when_a_level_is_asked_for_is_lost(self):
        def break_it():
            self.proxy.faults.add("close", "LOCK.ACQUIRE", 1)

        outer = self.client.acquire(self.lock, session=True)
        break_it()
        with self.assertRaises(LockLostError):
            self.client.acquire(self.lock)
        self.assertFalse(outer.held)
        self.assert_nothing_left()

        async def work(client):
            outer = await client.acquire(self.lock, session=True)
            break_it()
            with self.assertRaises(LockLostError):
                await client.acquire(self.lock)
            self.assertFalse(outer.held)
            self.assert_nothing_left()

        self.with_asyncio(work)

    def test_levels_may_be_released_in_any_order(self):
        one, two, three = (self.client.acquire(self.lock) for _ in range(3))
        self.assertTrue(one.release() and two.release())
        self.assertEqual((one.held, two.held, three.held, self.level()), (False, False, True, 3))
        four = self.client.acquire(self.lock)
        self.assertEqual(four.level, 4)
        del one, two
        gc.collect()
        self.assertTrue(four.release())
        self.assertEqual(self.level(), 3)
        self.assertTrue(three.release())
        self.assertEqual(self.level(), 0)
        self.assertFalse(three.lost.is_set())

        async def work(client):
            one, two, three = [await client.acquire(self.lock) for _ in range(3)]
            self.assertTrue(await two.release())
            self.assertEqual(self.level(), 3)
            self.assertTrue(await three.release())
            self.assertEqual((one.held, self.level()), (True, 1))
            two = await client.acquire(self.lock)
            self.assertTrue(await one.release() and two.held and await two.release())
            self.assertEqual(self.level(), 0)
            self.assertFalse(one.lost.is_set())

        self.with_asyncio(work)

    def test_a_level_that_was_given_up_takes_nothing_from_the_next(self):
        def lose_replies():
            # More than it asks for in two seconds.
            self.proxy.faults.add("close", "LOCK.ACQUIRE", 60)
            self.proxy.faults.add("close", "LOCK.RELEASE", 2)

        outer = self.client.acquire(self.lock, wait=0)
        lose_replies()
        with self.assertRaises(redis.exceptions.ConnectionError):
            self.client.acquire(self.lock, wait=0)
        self.proxy.faults.next = [each for each in self.proxy.faults.next if each[0] != b"LOCK.ACQUIRE"]
        # It waits first until the level is given up.
        inner = self.client.acquire(self.lock, wait=10)
        time.sleep(1)
        self.assertEqual(self.level(), 2)
        self.assertTrue(inner.release() and outer.release())

        async def work(client):
            outer = await client.acquire(self.lock, wait=0)
            lose_replies()
            with self.assertRaises(redis.exceptions.ConnectionError):
                await client.acquire(self.lock, wait=0)
            self.proxy.faults.next = [each for each in self.proxy.faults.next if each[0] != b"LOCK.ACQUIRE"]
            inner = await client.acquire(self.lock, wait=10)
            await asyncio.sleep(1)
            self.assertEqual(self.level(), 2)
            self.assertTrue(await inner.release() and await outer.release())

        self.with_asyncio(work)

    def test_a_level_of_a_hold_whose_lease_is_over_here_is_an_error(self):
        self.client.acquire(self.lock, lease=60).release()
        outer = self.client.acquire(self.lock, lease=0.5, renew=False)
        self.direct.execute_command("LOCK.EXTEND", self.lock, outer.token, "PX", 30000)
        self.assertTrue(eventually(lambda: not outer.held, 10))
        with self.assertRaises(LockLostError):
            self.client.acquire(self.lock)
        outer.release()

        async def work(client):
            outer = await client.acquire(self.lock, lease=0.5, renew=False)
            self.direct.execute_command("LOCK.EXTEND", self.lock, outer.token, "PX", 30000)
            await outer.lost.wait()
            with self.assertRaises(LockLostError):
                await client.acquire(self.lock)
            await outer.release()

        self.with_asyncio(work)

    def test_an_extension_to_no_time_is_an_error_and_a_level_makes_it_no_shorter(self):
        def times():
            return self.direct.info("commandstats").get("cmdstat_LOCK.EXTEND", {"calls": 0})["calls"]

        before = times()
        outer = self.client.acquire(self.lock, lease=60)
        inner = self.client.acquire(self.lock)
        for lease in (0, -1, float("nan"), float("inf")):
            for each in (outer, inner):
                with self.assertRaises(ValueError):
                    each.extend(lease)
        self.assertEqual(times(), before)
        self.assertTrue(inner.extend(1))
        self.assertGreater(outer.remaining, 50)
        self.assertTrue(inner.extend(90) and outer.remaining > 80)
        self.assertTrue(inner.release() and outer.extend(3) and outer.remaining <= 3)
        outer.release()

        async def work(client):
            outer = await client.acquire(self.lock, lease=60)
            inner = await client.acquire(self.lock)
            with self.assertRaises(ValueError):
                await outer.extend(0)
            self.assertTrue(await inner.extend(1) and outer.remaining > 50)
            self.assertTrue(await inner.release() and await outer.release())

        self.with_asyncio(work)

    def test_a_release_goes_on_for_as_long_as_the_lease_was_extended_to(self):
        held = self.client.acquire(self.lock, lease=4)
        self.assertTrue(held.extend(60))
        self.assertEqual(held.hold.to_release(held._options).lease, 60)
        self.proxy.faults.add("close", "LOCK.EXTEND", 1)
        self.assertTrue(held.extend(5))
        self.assertEqual(held.hold.to_release(held._options).lease, 5)
        held.release()


if __name__ == "__main__":
    unittest.main()
