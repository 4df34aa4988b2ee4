"""A server of its own for each file of tests, and what the tests share."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import redis
from proxy import Proxy

running = []


class Server:
    """On a free port, in a folder of its own, with further arguments. Stopped at the end of Python too, whatever ends
    it."""

    def __init__(self, *arguments):
        module = os.path.abspath(os.environ["REDIS_LOCK_MODULE"])
        self.folder = tempfile.mkdtemp(prefix="redis-lock-py-")
        running.append(self)
        for _ in range(5):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            self.log = open(os.path.join(self.folder, "log"), "w+")
            self.process = subprocess.Popen(
                [os.environ.get("REDIS_SERVER") or "redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
                 "--dir", self.folder, "--save", "", "--appendonly", "no", "--loadmodule", module, *arguments],
                stdout=self.log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
            if self._answers():
                return
        self.log.seek(0)
        text = self.log.read()
        self.stop()
        raise RuntimeError("The server does not start:\n" + text)

    def _answers(self):
        with redis.Redis(port=self.port) as client:
            end = time.monotonic() + 20
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    # Another server may have taken the port first: ours has our process id.
                    return client.info("server")["process_id"] == self.process.pid
                except redis.exceptions.ConnectionError:
                    time.sleep(0.05)
        return False

    def stop(self):
        if self in running:
            running.remove(self)
            self.process.kill()
            self.process.wait()
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)


@atexit.register
def stop_all():
    for each in list(running):
        each.stop()


def stop_at_once(*_):
    # unittest takes SystemExit for the failure of one test and goes on with the next.
    stop_all()
    os._exit(1)


signal.signal(signal.SIGTERM, stop_at_once)


def eventually(what, seconds=5):
    """Waits until `what()` is true and gives that back."""
    end = time.monotonic() + seconds
    while True:
        seen = what()
        if seen or time.monotonic() > end:
            return seen
        time.sleep(0.01)


class Call(threading.Thread):
    """A call in a thread of its own: its reply, or what it raised."""

    def __init__(self, client, *command):
        super().__init__(daemon=True)
        self.client, self.command, self.reply, self.error = client, command, None, None
        self.start()

    def run(self):
        try:
            self.reply = self.client.execute_command(*self.command)
        except Exception as error:
            self.error = error

    def result(self, seconds=30):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"No reply to {self.command}")
        if self.error:
            raise self.error
        return self.reply


class LockTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.key = self.id().rsplit(".", 1)[-1]
        self.proxy = Proxy(self.server.port)
        self.addCleanup(self.proxy.stop)
        self.direct = self.client(self.server.port)

    def client(self, port=None, **also):
        """redis-py as it comes. Each call makes a pool of its own."""
        client = redis.Redis("127.0.0.1", port or self.proxy.port, **also)
        self.addCleanup(client.close)
        return client

    def info(self, key=None):
        return self.direct.execute_command("LOCK.INFO", key or self.key)

    def holders(self):
        info = self.info()
        return info[b"holders"] if info else []

    def queue(self):
        """The owners of those who wait, the first in front."""
        info = self.info()
        return [each[b"owner"] for each in info[b"queue"]] if info else []

    def hold(self, token="holder", *options):
        """Somebody else holds the lock, without the proxy."""
        reply = self.direct.execute_command("LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", token, *options)
        self.assertIsNotNone(reply)
        return reply

    def release(self, token, *options):
        """From another pool, without the proxy."""
        return self.direct.execute_command("LOCK.RELEASE", self.key, token, *options)

    def assert_nothing_left(self, key=None):
        self.assertIsNone(self.info(key))
