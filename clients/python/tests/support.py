"""Servers, the proxy, and clients of both kinds, driven alike."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import unittest
from concurrent.futures import Future

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
# The servers and the proxy of the tests of redis-py.
sys.path.insert(0, os.path.join(ROOT, "tests", "redis_py"))

import redis
import redis.asyncio
from proxy import Proxy
from server import Server, eventually

import redis_lock_client
import redis_lock_client.asyncio

__all__ = ["HERE", "ROOT", "Proxy", "Server", "SomeFaults", "Tasks", "Threads", "ServerTest", "eventually"]


class Interrupted(BaseException):
    """What a thread is cancelled by, as KeyboardInterrupt does to the main thread."""


class Thread:
    """An actor: a thread that does one thing after the other."""

    def __init__(self):
        self.todo, self.wake, self.end = [], threading.Condition(), False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.end:
            with self.wake:
                while not self.todo:
                    self.wake.wait()
                what, done = self.todo.pop(0)
            try:
                done.set_result(what())
            except BaseException as error:
                done.set_exception(error)

    def submit(self, what, *args, **also):
        done = Future()
        with self.wake:
            self.todo.append((lambda: what(*args, **also), done))
            self.wake.notify()
        return done

    def stop(self):
        self.end = True
        self.submit(lambda: None)

    def cancel(self):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread.ident), ctypes.py_object(Interrupted))


class Threads:
    """The client for threads."""

    cancelled = Interrupted

    def __init__(self, port, protocol, **also):
        self.redis = redis.Redis(port=port, protocol=protocol, **also)
        self.client = redis_lock_client.LockClient(self.redis)

    actor = staticmethod(Thread)

    def close(self):
        self.client.close()
        self.redis.close()


class Loop:
    """An event loop in a thread of its own, for all."""

    loop = None

    @classmethod
    def get(cls):
        if cls.loop is None:
            cls.loop = asyncio.new_event_loop()
            threading.Thread(target=cls.loop.run_forever, daemon=True).start()
        return cls.loop

    @classmethod
    def run(cls, coroutine, seconds=60):
        return asyncio.run_coroutine_threadsafe(coroutine, cls.get()).result(seconds)


class Task:
    """An actor: a task that does one thing after the other."""

    def __init__(self):
        Loop.run(self.start())

    async def start(self):
        self.todo, self.end = asyncio.Queue(), False
        self.task = asyncio.create_task(self.work())

    async def work(self):
        while True:
            what, done = await self.todo.get()
            try:
                done.set_result(await what())
            except BaseException as error:
                done.set_exception(error)
                if self.end:
                    raise

    def submit(self, what, *args, **also):
        done = Future()
        Loop.get().call_soon_threadsafe(self.todo.put_nowait, (lambda: what(*args, **also), done))
        return done

    def stop(self):
        self.end = True
        self.cancel()

    def cancel(self):
        Loop.get().call_soon_threadsafe(self.task.cancel)


class Tasks:
    """The client for asyncio."""

    cancelled = asyncio.CancelledError

    def __init__(self, port, protocol, **also):
        async def begin():
            self.redis = redis.asyncio.Redis(port=port, protocol=protocol, **also)
            self.client = redis_lock_client.asyncio.LockClient(self.redis)

        Loop.run(begin())

    actor = staticmethod(Task)

    def close(self):
        Loop.run(self.client.close())
        Loop.run(self.redis.aclose())


class SomeFaults:
    """Faults for the next replies to some commands, or for all replies."""

    def __init__(self):
        self.next, self.stalled = [], False

    def add(self, fault, name, times):
        self.next += [(name.encode(), fault)] * times

    def of_request(self, words):
        return None

    def of_reply(self, words):
        if self.stalled:
            return "swallow"
        for number, (name, fault) in enumerate(self.next):
            if words[0].upper() == name:
                del self.next[number]
                return fault
        return None


class ServerTest(unittest.TestCase):
    """Each class has a server, each test a proxy in front of it that has not lost anything yet."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)
        cls.direct = redis.Redis(port=cls.server.port, protocol=3)
        cls.addClassCleanup(cls.direct.close)

    def setUp(self):
        self.direct.flushall()
        self.lock = self.id().rsplit(".", 1)[-1]
        self.new_proxy()

    def new_proxy(self):
        self.proxy = Proxy(self.server.port)
        self.proxy.faults, self.proxy.seconds = SomeFaults(), 0.3
        self.addCleanup(self.proxy.stop)

    def info(self, name=None):
        """What LOCK.INFO says: how many hold it and wait, their labels, and the level of the first."""
        info = self.direct.execute_command("LOCK.INFO", name or self.lock) or {}
        holders, queue = info.get(b"holders", []), info.get(b"queue", [])
        return {
            "held": info.get(b"held", 0),
            "waiting": info.get(b"waiting", 0),
            "owners": [each[b"owner"] and each[b"owner"].decode() for each in holders],
            "queue": [each[b"owner"] and each[b"owner"].decode() for each in queue],
            "level": holders[0][b"level"] if holders else 0,
        }

    def assert_becomes(self, seconds=8, name=None, **wanted):
        def so():
            seen = self.info(name)
            return seen if all(seen[each] == value for each, value in wanted.items()) else None

        self.assertTrue(eventually(so, seconds), f"{self.info(name)} does not become {wanted}")

    def assert_nothing_left(self, name=None, seconds=8):
        self.assert_becomes(seconds, name, held=0, waiting=0)
