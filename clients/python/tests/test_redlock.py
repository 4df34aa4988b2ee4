"""Redlock over five servers: some killed, stopped, or restarted empty."""

import os
import signal
import threading
import time
import unittest

import redis
import redis.asyncio
from support import Loop, Server, eventually

import redis_lock_client
import redis_lock_client.asyncio

SERVERS = 5
LOCK = "redlock"


class Asyncio:
    """The client for asyncio, called from a thread."""

    def __init__(self, ports):
        async def begin():
            return redis_lock_client.asyncio.Redlock([redis.asyncio.Redis(port=port) for port in ports])

        self.client = Loop.run(begin())

    def acquire(self, name, **how):
        # Not the task of another call, which would have the next level of it.
        held = Loop.run(self.client.acquire(name, **how))
        return held and Held(held)

    def close(self):
        Loop.run(self.client.close())


class Held:
    def __init__(self, held):
        self.held_lock = held

    def __getattr__(self, name):
        return getattr(self.held_lock, name)

    def release(self):
        return Loop.run(self.held_lock.release())

    def extend(self, lease=None):
        return Loop.run(self.held_lock.extend(lease))


def threads(ports):
    return redis_lock_client.Redlock([redis.Redis(port=port) for port in ports])


class RedlockTest:
    kind = None

    def setUp(self):
        self.servers = [Server() for _ in range(SERVERS)]
        for each in self.servers:
            self.addCleanup(each.stop)
            self.addCleanup(self.wake, each)
        self.ports = [each.port for each in self.servers]
        self.direct = [redis.Redis(port=port, protocol=3) for port in self.ports]
        self.one, self.other = self.client(), self.client()

    def wake(self, server):
        if server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)

    def client(self):
        client = type(self).kind(self.ports)
        self.addCleanup(client.close)
        return client

    def held_at(self, numbers=range(SERVERS)):
        return [number for number in numbers if self.direct[number].execute_command("LOCK.INFO", LOCK)]

    def kill(self, number):
        self.servers[number].process.kill()
        self.servers[number].process.wait()

    def stop(self, number):
        self.servers[number].process.send_signal(signal.SIGSTOP)

    def test_it_is_held_at_all_servers_and_by_one(self):
        held = self.one.acquire(LOCK, wait=0)
        self.assertEqual(self.held_at(), list(range(SERVERS)))
        # Less the drift.
        self.assertLess(held.remaining, 30 - 0.3)
        self.assertIsNone(self.other.acquire(LOCK, wait=0))
        self.assertIsNone(self.other.acquire(LOCK, wait=0.5))
        self.assertTrue(held.release())
        self.assertEqual(self.held_at(), [])
        self.assertFalse(held.held)

    def test_who_waits_gets_it_later_with_a_higher_fence(self):
        held = self.one.acquire(LOCK)
        threading.Timer(0.5, held.release).start()
        later = self.other.acquire(LOCK, wait=10)
        self.assertGreater(later.fence, held.fence)
        self.assertTrue(later.release())

    def test_with_two_killed_it_goes_on(self):
        held = self.one.acquire(LOCK, lease=1.0)
        self.kill(0)
        self.kill(1)
        time.sleep(2.5)
        self.assertTrue(held.held)
        self.assertIsNone(self.other.acquire(LOCK, wait=0))
        self.assertTrue(held.release())
        self.assertTrue(self.other.acquire(LOCK, wait=5).release())
        self.assertEqual(self.held_at(range(2, SERVERS)), [])

    def test_with_three_killed_it_is_lost_in_time_and_cannot_be_acquired(self):
        held = self.one.acquire(LOCK, lease=1.0)
        for number in range(3):
            self.kill(number)
        self.assertTrue(eventually(held.lost.is_set, 1.5))
        self.assertFalse(held.held)
        with self.assertRaises(redis.exceptions.ConnectionError):
            self.other.acquire(LOCK, wait=0.5)
        self.assertFalse(held.release())

    def test_with_one_stopped_it_goes_on_and_the_stopped_one_forgets_it(self):
        self.stop(0)
        held = self.one.acquire(LOCK, lease=2.0)
        self.assertIsNotNone(held)
        time.sleep(3)
        self.assertTrue(held.held)
        self.assertIsNone(self.other.acquire(LOCK, wait=0))
        self.assertTrue(held.release())
        self.servers[0].process.send_signal(signal.SIGCONT)
        # It may do only now what it was asked before.
        self.assertTrue(eventually(lambda: self.held_at() == [], 4))

    def test_with_one_stopped_and_two_killed_there_is_no_majority(self):
        self.stop(0)
        self.kill(1)
        self.kill(2)
        with self.assertRaises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
            self.one.acquire(LOCK, wait=0.2)
        self.assertTrue(eventually(lambda: self.held_at((3, 4)) == [], 5))

    def restart_empty(self, number, *arguments):
        self.kill(number)
        again = Server(*arguments)
        self.addCleanup(again.stop)
        return again

    def test_a_server_that_restarted_empty_alone_gives_nobody_a_majority(self):
        held = self.one.acquire(LOCK)
        again = self.restart_empty(0)
        ports = [again.port, *self.ports[1:]]
        other = type(self).kind(ports)
        self.addCleanup(other.close)
        self.assertIsNone(other.acquire(LOCK, wait=1))
        self.assertTrue(held.release())

    def test_three_servers_that_restarted_empty_give_a_second_majority(self):
        """The hole that the documentation names. Where there is no file at all, lock.restart-grace does not close it."""
        held = self.one.acquire(LOCK)
        ports = [*(self.restart_empty(number).port for number in range(3)), *self.ports[3:]]
        other = type(self).kind(ports)
        self.addCleanup(other.close)
        second = other.acquire(LOCK, wait=1)
        self.assertIsNotNone(second)
        self.assertTrue(held.held)

    def test_restart_grace_keeps_servers_that_forgot_from_a_second_majority(self):
        # They have a file, from before the lock.
        for direct in self.direct[:3]:
            direct.save()
        held = self.one.acquire(LOCK)
        again = [
            self.restart_empty(number, "--dir", self.servers[number].folder, "--lock.restart-grace", "30000")
            for number in range(3)
        ]
        ports = [*(each.port for each in again), *self.ports[3:]]
        other = type(self).kind(ports)
        self.addCleanup(other.close)
        self.assertIsNone(other.acquire(LOCK, wait=1))
        self.assertTrue(held.held)

    def test_contenders_take_turns(self):
        inside, worst, done = [], [], []

        def work(client):
            for _ in range(5):
                held = client.acquire(LOCK, lease=10, wait=60, level=1)
                inside.append(1)
                worst.append(len(inside))
                time.sleep(0.01)
                inside.pop()
                held.release()
            done.append(1)

        some = [threading.Thread(target=work, args=(self.client(),)) for _ in range(4)]
        for each in some:
            each.start()
        for each in some:
            each.join(120)
        self.assertEqual((len(done), max(worst)), (4, 1))
        self.assertEqual(self.held_at(), [])


class Threads(RedlockTest, unittest.TestCase):
    kind = staticmethod(threads)


class Tasks(RedlockTest, unittest.TestCase):
    kind = Asyncio


if __name__ == "__main__":
    unittest.main()
