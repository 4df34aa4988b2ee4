"""redis-py's own Lock, which is SET NX and scripts, and LOCK.* on the same keys, with lock.adopt-strings: never two holders, as
checker/ judges it. Some holders of the one kind go on by the commands of the other, as while a program is moved over.

REDIS_LOCK_SEED repeats the choices, REDIS_LOCK_SECONDS is how long it goes on (10)."""

import os
import random
import threading
import time

import redis
from proxy import RandomFaults
from recorder import Recorder, RecordingRedis
from redis.exceptions import LockNotOwnedError, ResponseError
from redis.lock import Lock
from server import LockTest, Server

THREADS_OF_A_KIND, KEYS = 4, ("a", "b", "c")
LEASES = (100, 600)


class Worker(threading.Thread):
    def __init__(self, name, seed, end):
        super().__init__(daemon=True)
        self.own_name, self.end, self.random, self.broken = name, end, random.Random(f"{seed}-{name}"), None
        self.counts = dict.fromkeys(("granted", "lost", "died", "carried over"), 0)

    def run(self):
        try:
            turn = 0
            while time.monotonic() < self.end:
                self.turn(self.random.choice(KEYS), f"{self.own_name}-{turn}")
                time.sleep(self.random.random() * 0.03)
                turn += 1
        except BaseException as error:
            self.broken = error
            raise

    def lease(self):
        return self.random.randint(*LEASES)

    def often(self, share):
        return self.random.random() < share

    def work(self):
        time.sleep(self.random.random() * 0.04)


class Old(Worker):
    """A client as it was: redis-py's own Lock."""

    def __init__(self, name, seed, end, client, new_client):
        super().__init__(name, seed, end)
        self.client, self.new_client = client, new_client

    def turn(self, key, _):
        lock = self.client.lock(key, timeout=self.lease() / 1000, sleep=0.005, blocking_timeout=0.3, thread_local=False)
        if not lock.acquire():
            return
        self.counts["granted"] += 1
        carried_over = self.often(0.3)
        self.work()
        try:
            if carried_over:
                return self.carry_over(key, lock.local.token.decode())
            if self.often(0.4):
                lock.extend(self.lease() / 1000, replace_ttl=True)
                self.work()
            if self.often(0.1):
                self.counts["died"] += 1
            else:
                lock.release()
        except LockNotOwnedError:
            self.counts["lost"] += 1
        except ResponseError as error:
            # Its lock has ended, and the key is one of the module's now.
            assert "WRONGTYPE" in str(error), error
            self.counts["lost"] += 1

    def carry_over(self, key, token):
        """The same holder goes on with LOCK.*."""
        self.counts["carried over"] += 1
        for _ in range(self.random.randint(0, 2)):
            does = self.random.randrange(3)
            if does == 0:
                reply = self.new_client.execute_command("LOCK.ACQUIRE", key, "TOKEN", token, "PX", self.lease())
                assert reply is None or reply[0] == token.encode(), reply
            elif does == 1:
                self.new_client.execute_command("LOCK.EXTEND", key, token, "PX", self.lease())
            else:
                self.new_client.execute_command("LOCK.CHECK", key, token)
            self.work()
        self.new_client.execute_command("LOCK.RELEASE", key, token)


class New(Worker):
    """A client of the module, whose replies may be lost."""

    def __init__(self, name, seed, end, client):
        super().__init__(name, seed, end)
        self.client = client

    def call(self, *command):
        try:
            return self.client.execute_command(*command)
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            return None

    def turn(self, key, token):
        options = ["TOKEN", token, "OWNER", token, "PX", self.lease()]
        if self.often(0.7):
            options += ["BLOCK", self.random.randint(1, 400)]
        if self.often(0.2):
            options.append("SHARED")
        try:
            if self.call("LOCK.ACQUIRE", key, *options):
                self.counts["granted"] += 1
                self.work()
                if self.often(0.3):
                    self.call("LOCK.EXTEND", key, token, "PX", self.lease())
                    self.work()
        finally:
            if self.often(0.1):
                self.counts["died"] += 1
            else:
                while self.call("LOCK.RELEASE", key, token) is None:
                    pass


class BesideSetNx(LockTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--lock.adopt-strings", "yes")
        cls.addClassCleanup(cls.server.stop)

    def test_clients_of_both_kinds_exclude_each_other(self):
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        seconds = float(os.environ.get("REDIS_LOCK_SECONDS") or 10)
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        recorder = Recorder(errors=",WRONGTYPE")
        self.proxy.faults = RandomFaults(f"{seed}-faults", close=0.03, cut=0.03, delay=0.05, late=0.05)
        self.proxy.closing = recorder.closing
        for script in (Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT, Lock.LUA_REACQUIRE_SCRIPT):
            self.direct.script_load(script)
        ports = self.server.port, self.server.port, self.proxy.port, self.server.port
        old, carried, new, watcher = (RecordingRedis(recorder, pool, port) for pool, port in enumerate(ports))
        for each in old, carried, new, watcher:
            self.addCleanup(each.close)
        end = time.monotonic() + seconds
        olds = [Old(f"old{number}", seed, end, old, carried) for number in range(THREADS_OF_A_KIND)]
        news = [New(f"new{number}", seed, end, new) for number in range(THREADS_OF_A_KIND)]
        for each in olds + news:
            each.start()
        while any(each.is_alive() for each in olds + news):
            for key in KEYS:
                watcher.execute_command("LOCK.INFO", key)
            time.sleep(0.03)
        counts = {
            kind: {name: sum(each.counts[name] for each in workers) for name in workers[0].counts}
            for kind, workers in (("old", olds), ("new", news))}
        print(counts, flush=True)
        said = recorder.checked(f"beside-set-nx-{seed}")
        self.assertEqual([each.broken for each in olds + news if each.broken], [])
        if said:
            self.fail(f"with REDIS_LOCK_SEED={seed}\n{said}")
        # Otherwise it has shown nothing.
        self.assertGreater(counts["old"]["granted"], 5 * seconds)
        self.assertGreater(counts["old"]["carried over"], 0)
        self.assertGreater(counts["new"]["granted"], 5 * seconds)
        time.sleep(LEASES[1] / 1000 + 0.5)
        self.assertEqual([key for key in KEYS if self.info(key)], [])


if __name__ == "__main__":
    import unittest

    unittest.main()
