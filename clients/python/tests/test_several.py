"""Several locks at once, weights, delays and guards: what is particular to Python. The cases of all clients have the rest."""

import asyncio
import gc
import threading
import unittest

import redis
import redis.asyncio
from support import ServerTest, eventually

import redis_lock_client
import redis_lock_client.asyncio
from redis_lock_client import DeadlockError, LockLostError
from redis_lock_client._routes import check_slots
from redis_lock_client._steps import Options


class Several(ServerTest):
    def setUp(self):
        super().setUp()
        self.client = redis_lock_client.LockClient(redis.Redis(port=self.server.port))
        self.addCleanup(self.client.close)

    def with_asyncio(self, work):
        async def main():
            async with redis_lock_client.asyncio.LockClient(redis.asyncio.Redis(port=self.server.port)) as client:
                await asyncio.wait_for(work(client), 20)

        asyncio.run(main())

    def commands(self, name):
        return self.direct.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})["calls"]

    def owner(self, name):
        return self.direct.execute_command("LOCK.INFO", name)[b"holders"][0][b"owner"].decode()

    def test_what_cannot_be_is_an_error_before_anything_is_sent(self):
        many = [f"lock {number}" for number in range(257)]
        before = self.commands("LOCK.MACQUIRE"), self.commands("LOCK.ACQUIRE")
        wrong = (
            {"names": []}, {"names": many}, {"names": ["a", "b"], "weight": 2}, {"names": ["a", "b"], "limit": 3, "weight": 4},
            {"names": ["a", "b"], "shared": True, "weight": 65536}, {"names": ["a", "b"], "weight": 0},
            {"names": ["a", "b"], "delay": 1.0}, {"names": ["a", "b"], "session": True, "delay": -1.0},
            {"names": ["a", "b"], "level": 2},
        )  # fmt: skip
        for how in wrong:
            with self.subTest(how), self.assertRaises(ValueError):
                self.client.acquire_all(**how)
        for what in ("name", b"name"):
            with self.assertRaises(TypeError):
                self.client.acquire_all(what)
        with self.assertRaises(TypeError):
            self.client.acquire_all(["a", "b"], nonsense=True)

        async def work(client):
            for how in wrong:
                with self.subTest(how), self.assertRaises(ValueError):
                    await client.acquire_all(**how)

        self.with_asyncio(work)
        self.assertEqual((self.commands("LOCK.MACQUIRE"), self.commands("LOCK.ACQUIRE")), before)
        held = self.client.acquire_all(many[:256])
        self.assertEqual(len(held.names), 256)
        self.assertTrue(held.extend() and held.release())

    def test_the_names_are_in_the_order_given_each_once(self):
        held = self.client.acquire_all(name for name in ("b", "a", "b", "c", "a"))
        self.assertEqual((held.names, held.name), (("b", "a", "c"), "b"))
        inner = self.client.acquire("c")
        self.assertEqual((inner.names, inner.level, inner.token), (("c",), 2, held.token))
        self.assertEqual(self.info("a")["held"], 1)
        self.assertTrue(inner.release() and held.held and held.release())
        one = self.client.acquire("b")
        self.assertEqual((one.names, one.level), (("b",), 1))
        self.assertTrue(one.release())

    def test_a_level_of_one_of_several_keeps_all_for_as_long_as_it_was_asked_for(self):
        held = self.client.acquire_all(["a", "b"], lease=4.0)
        inner = self.client.acquire("a", lease=60.0)
        for name in ("a", "b"):
            self.assertGreater(self.direct.execute_command("LOCK.CHECK", name, held.token)[1], 50000)
        self.assertGreater(held.remaining, 50)
        self.assertTrue(inner.release() and held.release())

    def test_a_level_that_is_over_leaves_the_outer_one_to_the_next(self):
        for names in (["a"], ["a", "b"]):
            with self.client.lock_all(names):
                for _ in range(2):
                    with self.client.lock("a", wait=0) as inner:
                        self.assertEqual(inner.level, 2)
                    del inner
                    gc.collect()

            async def work(client):
                async with client.lock_all(names):
                    for _ in range(2):
                        async with client.lock("a", wait=0) as inner:
                            self.assertEqual(inner.level, 2)
                        del inner
                        gc.collect()

            self.with_asyncio(work)
            with self.client.lock_all(names, wait=0) as held:
                self.assertEqual(held.level, 1)

    def test_readers_of_one_and_of_several_find_their_own_levels(self):
        one = self.client.acquire("a", shared=True)
        several = self.client.acquire_all(["a", "b"], shared=True)
        self.assertEqual((several.level, self.info("a")["held"]), (1, 2))
        of_one, of_several = self.client.acquire("a", shared=True), self.client.acquire_all(["b", "a"], shared=True)
        self.assertEqual((of_one.token, of_several.token), (one.token, several.token))
        self.assertEqual((of_one.level, of_several.level), (2, 2))
        for each in (of_several, of_one, several, one):
            self.assertTrue(each.release())

    def test_with_ends_in_an_error_if_one_of_them_was_lost_and_the_rest_is_released(self):
        fired = []
        with self.assertRaises(LockLostError):
            with self.client.lock_all(["a", "b"], lease=0.9) as held:
                held.on_lost(lambda: fired.append(True))
                self.direct.execute_command("LOCK.BREAK", "b")
                self.assertTrue(held.lost.wait(5))
                self.assert_nothing_left("a")
        self.assertTrue(eventually(lambda: fired == [True]), fired)

        async def work(client):
            with self.assertRaises(LockLostError):
                async with client.lock_all(["a", "b"], lease=0.9, cancel_on_lost=True):
                    self.direct.execute_command("LOCK.BREAK", "a")
                    await asyncio.sleep(60)

        self.with_asyncio(work)
        self.assert_nothing_left("b")

    def test_who_drops_several_locks_lets_their_lease_run_out(self):
        held = self.client.acquire_all(["a", "b"], lease=0.6)
        del held
        gc.collect()
        self.assert_nothing_left("a")
        self.assert_nothing_left("b")

    def test_each_thread_and_each_task_has_a_label_of_its_own(self):
        labels = []

        def hold(name):
            for _ in range(2):
                with self.client.lock(name):
                    labels.append(self.owner(name))
            barrier.wait()

        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=hold, args=(name,)) for name in ("a", "b")]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        async def hold_as_task(client, name):
            for _ in range(2):
                async with client.lock(name):
                    labels.append(self.owner(name))

        async def work(client):
            await asyncio.gather(*(hold_as_task(client, name) for name in ("a", "b")))

        self.with_asyncio(work)
        self.assertEqual((len(labels), len(set(labels))), (8, 4), labels)

    def test_threads_that_wait_for_each_other_are_told(self):
        barrier, outcomes = threading.Barrier(2), []

        def work(one, other):
            with self.client.lock(one):
                barrier.wait()
                try:
                    with self.client.lock(other, wait=20):
                        outcomes.append("held")
                except DeadlockError:
                    outcomes.append("deadlock")

        threads = [threading.Thread(target=work, args=names) for names in (("a", "b"), ("b", "a"))]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(outcomes, ["deadlock", "held"])

    def test_a_guarded_command_runs_once_or_not_at_all(self):
        held = self.client.acquire_all(["a", "b"], lease=60)
        self.assertEqual(held.guard("SET", "x", b"\x00\xff"), b"OK")
        self.assertEqual(held.guard("GET", "x", name="b"), b"\x00\xff")
        with self.assertRaises(ValueError):
            held.guard("GET", "x", name="c")
        with self.assertRaises(redis.exceptions.ResponseError) as raised:
            held.guard("LPUSH", "x", 1)
        self.assertIn("WRONGTYPE", str(raised.exception))
        self.assertTrue(held.held)
        self.direct.execute_command("LOCK.BREAK", "b")
        fired = []
        held.on_lost(lambda: fired.append(True))
        with self.assertRaises(LockLostError):
            held.guard("DEL", "x", name="b")
        with self.assertRaises(LockLostError):
            held.guard("DEL", "x")
        self.assertTrue(eventually(lambda: fired == [True]), fired)
        self.assertTrue(self.direct.exists("x"))
        self.assert_nothing_left("a")
        self.assertFalse(held.release())

        async def work(client):
            async with client.lock("a", lease=60) as held:
                self.assertEqual(await held.guard("STRLEN", "x"), 2)
                self.direct.execute_command("LOCK.BREAK", "a")
                with self.assertRaises(LockLostError):
                    await held.guard("DEL", "x")
                await asyncio.wait_for(held.lost.wait(), 5)
                await held.release()

        self.with_asyncio(work)
        self.assertTrue(self.direct.exists("x"))

    def test_locks_of_several_slots_are_an_error_in_plain_words(self):
        check_slots(Options(("{bank}:7", "{bank}:8", "bank")))
        with self.assertRaisesRegex(ValueError, "put the same {tag} in all names"):
            check_slots(Options(("bank:7", "bank:8")))

    def test_redlock_says_what_it_does_not_have(self):
        redlock = redis_lock_client.Redlock([redis.Redis(port=self.server.port)])
        self.addCleanup(redlock.close)
        with self.assertRaises(ValueError):
            redlock.acquire_all(["a", "b"])
        with redlock.lock("a", limit=3, weight=2) as held, self.assertRaises(ValueError):
            held.guard("SET", "x", 1)
        self.assertFalse(self.direct.exists("x"))

        async def work(_):
            redlock = redis_lock_client.asyncio.Redlock([redis.asyncio.Redis(port=self.server.port)])
            with self.assertRaises(ValueError):
                await redlock.acquire_all(["a", "b"])
            async with redlock.lock("a") as held:
                with self.assertRaises(ValueError):
                    await held.guard("SET", "x", 1)
            await redlock.close()

        self.with_asyncio(work)


if __name__ == "__main__":
    unittest.main()
