"""Clients that keep a place in the queue by LOCK.ACQUIRE ... QUEUE, and what their tests share."""

import threading
import time

import redis
from server import LockTest

LEASE = 60000
# So long that a machine that stands still for a while lets no claim come too late: those tests are about order.
CLAIM_LEASE = 20000
LOST = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


class Messages(threading.Thread):
    """Hears on the sharded channel of a key which tickets have been granted the lock."""

    def __init__(self, client, key):
        super().__init__(daemon=True)
        self.pubsub = client.pubsub()
        self.pubsub.ssubscribe(key)
        while self.pubsub.get_message(timeout=5)["type"] != "ssubscribe":
            pass
        self.tickets, self.heard, self.ended = [], threading.Condition(), False
        self.start()

    def run(self):
        while not self.ended:
            message = self.pubsub.get_message(timeout=0.1)
            if message and message["type"] == "smessage":
                with self.heard:
                    self.tickets.append(int(message["data"]))
                    self.heard.notify_all()
        self.pubsub.close()

    def wait(self, ticket, seconds):
        with self.heard:
            return self.heard.wait_for(lambda: ticket in self.tickets, seconds)

    def stop(self):
        self.ended = True
        self.join()


class Waiter(threading.Thread):
    """Sends the same LOCK.ACQUIRE until it is granted, whatever the library raises when it has given up. It repeats after
    `pause` seconds, or when `messages` tells its ticket."""

    def __init__(self, client, key, token, *options, pause=0, messages=None):
        super().__init__(daemon=True)
        self.client, self.token, self.pause, self.messages = client, token, pause, messages
        self.command = ("LOCK.ACQUIRE", key, "PX", LEASE, "TOKEN", token, "OWNER", token, *options)
        self.tickets, self.given_up, self.fence, self.error, self.ended = [], 0, None, None, False
        self.start()

    def run(self):
        try:
            while self.fence is None and not self.ended:
                self.ask()
        except Exception as error:
            self.error = error

    def ask(self):
        try:
            reply = self.client.execute_command(*self.command)
        except LOST:
            self.given_up += 1
            return
        if isinstance(reply, list):
            self.fence = reply[1]
            return
        if not isinstance(reply, int):
            raise AssertionError(f"{self.command} is told {reply}")
        if reply not in self.tickets:
            self.tickets.append(reply)
        if self.messages:
            self.messages.wait(reply, self.pause)
        else:
            time.sleep(self.pause)

    def result(self, seconds=30):
        """The fence."""
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"{self.command} is not granted")
        if self.error:
            raise self.error
        return self.fence

    def stop(self):
        self.ended = True


class PlacesTest(LockTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with redis.Redis(port=cls.server.port) as client:
            client.config_set("lock.claim-lease", CLAIM_LEASE)

    def claim_lease(self, milliseconds):
        """For this test."""
        self.direct.config_set("lock.claim-lease", milliseconds)
        self.addCleanup(self.direct.config_set, "lock.claim-lease", CLAIM_LEASE)

    def waiter(self, client, token, *options, key=None, **also):
        waiter = Waiter(client, key or self.key, token, *options, **also)
        self.addCleanup(waiter.stop)
        return waiter

    def messages(self, client):
        messages = Messages(client, self.key)
        self.addCleanup(messages.stop)
        return messages

    def ask(self, client, token, *options, key=None):
        """Once."""
        return client.execute_command("LOCK.ACQUIRE", key or self.key, "PX", LEASE, "TOKEN", token, "OWNER", token, *options)

    def take_place(self, token):
        """Somebody else keeps a place, without the proxy."""
        ticket = self.ask(self.direct, token, "QUEUE", 600000)
        self.assertIsInstance(ticket, int)
        return ticket

    def places(self, key=None):
        info = self.info(key)
        return info[b"queue"] if info else []

    def waiting(self, key=None):
        """The owners of those who wait, the first in front."""
        return [each[b"owner"].decode() for each in self.places(key)]

    def fences(self, key=None):
        """Of those who hold it."""
        info = self.info(key)
        return [each[b"fence"] for each in info[b"holders"]] if info else []

    def times_asked(self, token):
        return sum(words[0] == b"LOCK.ACQUIRE" and token.encode() in words for words in list(self.proxy.sent))

    def assert_served_in_turn(self, waiters, key=None):
        """Who is granted the lock holds it alone while the others wait on, in order. Then it gives the lock back."""
        last = 0
        for number, each in enumerate(waiters):
            fence = each.result()
            self.assertGreater(fence, last)
            self.assertEqual(self.fences(key), [fence])
            self.assertEqual(self.waiting(key), [behind.token for behind in waiters[number + 1 :]])
            self.assertEqual(self.direct.execute_command("LOCK.RELEASE", key or self.key, each.token), 1)
            last = fence
        self.assert_nothing_left(key)
