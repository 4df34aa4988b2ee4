"""A server, and a proxy in front of it."""

from __future__ import annotations

import os
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
# The servers and the proxy of the tests of redis-py.
sys.path.insert(0, os.path.join(ROOT, "tests", "redis_py"))

import redis
from proxy import Proxy
from server import Server, eventually

__all__ = ["HERE", "ROOT", "Proxy", "Server", "SomeFaults", "ServerTest", "eventually", "is_renewed"]


class SomeFaults:
    """Faults for the next replies to some commands."""

    def __init__(self):
        self.next = []

    def add(self, fault, name, times):
        self.next += [(name.encode(), fault)] * times

    def of_request(self, words):
        return None

    def of_reply(self, words):
        for number, (name, fault) in enumerate(self.next):
            if words[0].upper() == name:
                del self.next[number]
                return fault
        return None


def is_renewed(direct, name, seconds=8):
    """Whether the lease begins anew within this time: the server says that more is left of it than when last asked."""
    left = float("inf")

    def so():
        nonlocal left
        before, info = left, direct.execute_command("LOCK.INFO", name)
        left = info[b"holders"][0][b"remaining"] if info else 0
        return left > before

    return eventually(so, seconds)


class ServerTest(unittest.TestCase):
    """Each class has a server, each test a proxy in front of it that has not lost anything yet.

    The whole machine may stand still for a second or more: no lease that is not to end is shorter than three seconds, and
    no limit of time as short as that."""

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
        """What LOCK.INFO says: how many hold it and wait."""
        info = self.direct.execute_command("LOCK.INFO", name or self.lock) or {}
        return {"held": info.get(b"held", 0), "waiting": info.get(b"waiting", 0)}

    def assert_becomes(self, seconds=8, name=None, **wanted):
        def so():
            seen = self.info(name)
            return seen if all(seen[each] == value for each, value in wanted.items()) else None

        self.assertTrue(eventually(so, seconds), f"{self.info(name)} does not become {wanted}")

    def assert_nothing_left(self, name=None, seconds=8):
        self.assert_becomes(seconds, name, held=0, waiting=0)
