"""One `client.lock(...)` that several threads or tasks enter: each leaves the lock that it has entered itself."""

import asyncio
import threading
import unittest

import redis
import redis.asyncio
from support import ServerTest

import redis_lock_client
import redis_lock_client.asyncio


class With(ServerTest):
    def test_threads_that_share_it_leave_their_own_lock(self):
        client = redis_lock_client.LockClient(redis.Redis(port=self.server.port))
        self.addCleanup(client.close)
        lock, seen = client.lock(self.lock, limit=2), {}
        entered, left = [threading.Event(), threading.Event()], threading.Event()

        def first():
            with lock as seen["first"]:
                entered[0].set()
                entered[1].wait(10)
            left.set()

        def second():
            entered[0].wait(10)
            with lock as seen["second"]:
                entered[1].set()
                left.wait(10)
                seen["held"] = seen["first"].held, seen["second"].held

        threads = [threading.Thread(target=each) for each in (first, second)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        self.assertEqual(seen["held"], (False, True))
        self.assert_nothing_left()

    def test_tasks_that_share_it_leave_their_own_lock(self):
        async def main():
            async with redis_lock_client.asyncio.LockClient(redis.asyncio.Redis(port=self.server.port)) as client:
                lock, seen = client.lock(self.lock, limit=2), {}
                entered, left = [asyncio.Event(), asyncio.Event()], asyncio.Event()

                async def first():
                    async with lock as seen["first"]:
                        entered[0].set()
                        await entered[1].wait()
                    left.set()

                async def second():
                    await entered[0].wait()
                    async with lock as seen["second"]:
                        entered[1].set()
                        await left.wait()
                        self.assertEqual((seen["first"].held, seen["second"].held), (False, True))

                await asyncio.wait_for(asyncio.gather(first(), second()), 20)

        asyncio.run(main())
        self.assert_nothing_left()

    def test_it_may_be_left_by_another_thread_or_task_than_has_entered_it(self):
        client = redis_lock_client.LockClient(redis.Redis(port=self.server.port))
        self.addCleanup(client.close)
        lock = client.lock(self.lock)
        entering = threading.Thread(target=lock.__enter__)
        entering.start()
        entering.join()
        lock.__exit__(None, None, None)
        self.assert_nothing_left()

        async def main():
            async with redis_lock_client.asyncio.LockClient(redis.asyncio.Redis(port=self.server.port)) as client:
                lock = client.lock(self.lock)
                await asyncio.create_task(lock.__aenter__())
                await lock.__aexit__(None, None, None)

        asyncio.run(main())
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
