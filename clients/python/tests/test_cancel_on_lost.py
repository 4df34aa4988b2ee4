"""A task whose block is cancelled when its lock is lost: it is told once, by LockLostError, and nothing else is cancelled."""

import asyncio
import unittest

import redis.asyncio
from support import ServerTest

from redis_lock_client import LockLostError
from redis_lock_client.asyncio import LockClient

FOREVER = 60


class CancelOnLost(ServerTest):
    def run_with_client(self, work):
        async def main():
            async with LockClient(redis.asyncio.Redis(port=self.server.port)) as client:
                await asyncio.wait_for(work(client), 20)
                self.assertEqual(asyncio.current_task().cancelling(), 0)
                # No cancellation is left over.
                await asyncio.sleep(0)

        asyncio.run(main())
        self.assert_nothing_left()

    def test_what_waits_in_the_block_is_cancelled_at_once(self):
        async def work(client):
            with self.assertRaises(LockLostError):
                async with client.lock(self.lock, lease=0.9, cancel_on_lost=True):
                    self.direct.execute_command("LOCK.BREAK", self.lock)
                    await asyncio.sleep(FOREVER)
            self.assertEqual(asyncio.current_task().cancelling(), 0)
            await asyncio.sleep(0)

        self.run_with_client(work)

    def test_whoever_else_cancels_it_meanwhile_is_obeyed(self):
        async def block(client):
            async with client.lock(self.lock, lease=0.9, cancel_on_lost=True):
                self.direct.execute_command("LOCK.BREAK", self.lock)
                try:
                    await asyncio.sleep(FOREVER)
                finally:
                    asyncio.current_task().cancel()

        async def work(client):
            task = asyncio.create_task(block(client))
            await asyncio.wait({task})
            self.assertTrue(task.cancelled())

        self.run_with_client(work)

    def test_a_timeout_around_the_block_is_a_timeout(self):
        async def work(client):
            with self.assertRaises(TimeoutError):
                async with asyncio.timeout(0.2), client.lock(self.lock, cancel_on_lost=True):
                    await asyncio.sleep(FOREVER)

        self.run_with_client(work)

    def test_an_error_of_the_body_stays_what_it_is(self):
        async def work(client):
            with self.assertRaises(ZeroDivisionError):
                async with client.lock(self.lock, lease=0.9, cancel_on_lost=True):
                    self.direct.execute_command("LOCK.BREAK", self.lock)
                    try:
                        await asyncio.sleep(FOREVER)
                    except asyncio.CancelledError:
                        raise ZeroDivisionError from None

        self.run_with_client(work)

    def test_a_body_that_has_ended_leaves_no_cancellation_behind(self):
        """The loss comes in the same turn of the loop as the end: with and without a release of its own in the body."""

        async def work(client):
            for releases in (False, True):
                block = client.lock(self.lock, cancel_on_lost=True)
                with self.assertRaises(LockLostError):
                    async with block as held:
                        if releases:
                            await held.release()
                        held.hold.lose()
                        block._entered._all[-1][1].cancel()
                self.assertEqual(asyncio.current_task().cancelling(), 0)
                for _ in range(3):
                    await asyncio.sleep(0)

        self.run_with_client(work)

    def test_a_lock_that_was_released_cancels_nothing(self):
        async def work(client):
            async with client.lock(self.lock, lease=3.0, cancel_on_lost=True):
                pass
            # Longer than the lease.
            await asyncio.sleep(3.2)

        self.run_with_client(work)


if __name__ == "__main__":
    unittest.main()
