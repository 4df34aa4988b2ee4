"""Fifty tasks that wait for one lock by QUEUE and share one connection, as redis.asyncio has it by single_connection_client.
Nothing of what they send is ever blocked: a GET and a RELEASE go between."""

import asyncio
import collections
import unittest

import redis.asyncio
from places import LEASE, PlacesTest

TASKS = 50


class OneConnection(PlacesTest):
    def setUp(self):
        super().setUp()
        self.hold()
        self.direct.set("x", "y")
        self.grants, self.published, self.tickets, self.inside = [], [], {}, None
        self.kill_every = None

    def run_async(self, what):
        """With the connection that all share, and another one that hears the messages."""

        async def with_clients():
            self.told = collections.defaultdict(asyncio.Event)
            port = self.server.port
            async with redis.asyncio.Redis(port=port, single_connection_client=True, client_name="shared") as self.shared:
                async with redis.asyncio.Redis(port=port) as listener, listener.pubsub() as pubsub:
                    await pubsub.ssubscribe(self.key)
                    while (await pubsub.get_message(timeout=5))["type"] != "ssubscribe":
                        pass
                    heard = asyncio.create_task(self.hear(pubsub))
                    await asyncio.wait_for(what(), 60)
                    heard.cancel()

        asyncio.run(with_clients())

    async def hear(self, pubsub):
        while True:
            message = await pubsub.get_message(timeout=1)
            if message and message["type"] == "smessage":
                self.published.append(int(message["data"]))
                self.told[int(message["data"])].set()

    async def one(self, number, repeat_after, by_message):
        """Waits for the lock, holds it, and gives it back, also if it is cancelled meanwhile."""
        token = f"{number}"
        try:
            while True:
                reply = await self.shared.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", LEASE, "TOKEN", token, "OWNER", token, "QUEUE", 60000)
                if isinstance(reply, list):
                    break
                self.assertEqual(self.tickets.setdefault(token, reply), reply)
                if by_message:
                    try:
                        await asyncio.wait_for(self.told[reply].wait(), repeat_after)
                    except asyncio.TimeoutError:
                        pass
                else:
                    await asyncio.sleep(repeat_after)
            self.grants.append((reply[1], token))
            self.assertIsNone(self.inside)
            self.inside = token
            if self.kill_every and len(self.grants) % self.kill_every == 0:
                self.kill_shared()
            self.assertEqual(await self.shared.get("x"), b"y")
            await asyncio.sleep(0.001)
            self.assertEqual(self.inside, token)
            self.inside = None
        finally:
            await self.shared.execute_command("LOCK.RELEASE", self.key, token)

    def kill_shared(self):
        """What is under way on it is repeated by the library."""
        for each in self.direct.client_list():
            if each["name"] == "shared":
                self.assertEqual(self.direct.client_kill_filter(_id=each["id"]), 1)

    async def queue_up(self, repeat_after, by_message=True):
        tasks = [asyncio.create_task(self.one(number, repeat_after, by_message)) for number in range(TASKS)]
        while len(self.tickets) < TASKS:
            await asyncio.sleep(0.01)
        # All of them wait for as long as this is so.
        self.assertEqual(self.waiting(), sorted(self.tickets, key=self.tickets.get))
        self.assertEqual(self.direct.info("clients")["blocked_clients"], 0)
        for _ in range(100):
            self.assertEqual(await self.shared.get("x"), b"y")
        self.assertEqual(len(self.waiting()), TASKS)
        return tasks

    async def let_them(self, tasks):
        """The lock is given back on the connection on which all of them wait, and they have it one after the other."""
        self.assertEqual(await self.shared.execute_command("LOCK.RELEASE", self.key, "holder"), 1)
        while not all(each.done() for each in tasks):
            self.assertEqual(self.direct.info("clients")["blocked_clients"], 0)
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)

    def assert_each_had_it_once_in_the_order_of_tickets(self, without=()):
        in_order = sorted((token for token in self.tickets if token not in without), key=self.tickets.get)
        self.assertEqual([token for _, token in self.grants], in_order)
        fences = [fence for fence, _ in self.grants]
        self.assertEqual(fences, sorted(set(fences)))
        self.assert_nothing_left()
        return [self.tickets[token] for token in in_order]

    def test_each_has_the_lock_once_in_its_turn_by_the_message(self):
        async def what():
            # They would repeat within the claim lease, if a message were lost.
            await self.let_them(await self.queue_up(5))
            tickets = self.assert_each_had_it_once_in_the_order_of_tickets()
            # Each is published once.
            while len(self.published) < TASKS:
                await asyncio.sleep(0.01)
            self.assertEqual(self.published, tickets)

        self.run_async(what)

    def test_each_has_the_lock_once_in_its_turn_by_repeats_alone(self):
        async def what():
            await self.let_them(await self.queue_up(0.1, by_message=False))
            self.assert_each_had_it_once_in_the_order_of_tickets()

        self.run_async(what)

    def test_each_has_the_lock_once_in_its_turn_though_their_connection_is_killed(self):
        async def what():
            tasks = await self.queue_up(5)
            self.kill_shared()
            self.kill_every = 7
            await self.let_them(tasks)
            self.assert_each_had_it_once_in_the_order_of_tickets()

        self.run_async(what)

    def test_tasks_that_are_cancelled_while_they_wait_leave_no_place(self):
        cancelled = [0, 1, 2, 17, 30, 31, 48, 49]

        async def what():
            # Each waits for its message, so that none is cancelled while it reads from the connection.
            tasks = await self.queue_up(600)
            for number in cancelled:
                tasks[number].cancel()
            done = await asyncio.gather(*(tasks[number] for number in cancelled), return_exceptions=True)
            self.assertTrue(all(isinstance(each, asyncio.CancelledError) for each in done), done)
            self.assertEqual(len(self.waiting()), TASKS - len(cancelled))
            await self.let_them([each for number, each in enumerate(tasks) if number not in cancelled])
            self.assert_each_had_it_once_in_the_order_of_tickets(without=[f"{number}" for number in cancelled])

        self.run_async(what)


if __name__ == "__main__":
    unittest.main()
