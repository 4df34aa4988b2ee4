"""Threads that work at random behind random faults, judged by history.py. REDIS_LOCK_SEED repeats the choices, though not
how threads and server interleave; REDIS_LOCK_SECONDS is how long it goes on (15)."""

import os
import random
import threading
import time
import unittest

import redis
from history import Hold, judge
from proxy import RandomFaults
from server import LockTest

THREADS, KEYS = 8, ("a", "b", "c")


class Worker(threading.Thread):
    def __init__(self, number, seed, client, other_pool, end):
        super().__init__(daemon=True)
        self.number, self.client, self.other_pool, self.end = number, client, other_pool, end
        self.random = random.Random(f"{seed}-{number}")
        self.holds, self.released, self.errors, self.broken = [], {}, {}, None

    def run(self):
        try:
            count = 0
            while time.monotonic() < self.end:
                self.turn(f"{self.number}-{count}")
                count += 1
        except BaseException as error:
            self.broken = error
            raise

    def call(self, *command):
        """The reply, or None and the error counted when the library gives up."""
        try:
            return self.client.execute_command(*command), True
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            name = type(error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1
            return None, False

    def turn(self, token):
        key, shared = self.random.choice(KEYS), self.random.random() < 0.35
        lease = self.random.randint(300, 1500)
        options = ["PX", lease, "TOKEN", token, "OWNER", token]
        if shared:
            options.append("SHARED")
        if self.random.random() < 0.8:
            options += ["BLOCK", self.random.randint(1, 1500)]
        if self.random.random() < 0.3:
            options += ["LEVEL", 1]
        hold, sent = None, time.monotonic()
        try:
            reply, _ = self.call("LOCK.ACQUIRE", key, *options)
            told = time.monotonic()
            if reply:
                hold = Hold(self.number, key, shared, token, reply[1], sent, told, lease / 1000)
                self.work(hold)
        finally:
            release_sent = time.monotonic()
            while True:
                try:
                    self.other_pool.execute_command("LOCK.RELEASE", key, token)
                    break
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                    pass
            self.released[token] = time.monotonic()
            if hold:
                hold.release_sent, hold.release_told = release_sent, self.released[token]
                self.holds.append(hold)

    def work(self, hold):
        for _ in range(self.random.randint(0, 3)):
            time.sleep(self.random.random() * 0.08)
            lease = self.random.randint(300, 1500)
            draw = self.random.random()
            sent = time.monotonic()
            if draw < 0.4:
                reply, came = self.call("LOCK.EXTEND", hold.key, hold.token, "PX", lease)
                hold.extensions.append((sent, time.monotonic(), lease / 1000, bool(reply) if came else None, False))
            elif draw < 0.7:
                options = ("SHARED",) if hold.shared else ()
                reply, came = self.call(
                    "LOCK.ACQUIRE", hold.key, "PX", lease, "TOKEN", hold.token, "OWNER", hold.token, "LEVEL", 2, *options)
                hold.extensions.append((sent, time.monotonic(), lease / 1000, bool(reply) if came else None, True))
                if reply:
                    assert reply[1] == hold.fence, f"an inner level has another fence: {reply}, {hold}"
                time.sleep(self.random.random() * 0.03)
                self.call("LOCK.RELEASE", hold.key, hold.token, "LEVEL", 2)
            else:
                reply, came = self.call("LOCK.CHECK", hold.key, hold.token)
                if reply:
                    assert reply[0] == hold.fence, f"CHECK tells another fence: {reply}, {hold}"


class Workload(LockTest):
    def test_random_work_behind_random_faults(self):
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        seconds = float(os.environ.get("REDIS_LOCK_SECONDS") or 15)
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        self.proxy.faults = RandomFaults(
            f"{seed}-faults", close=0.06, cut=0.04, delay=0.06, trickle=0.02, swallow=0.002, late=0.06)
        end = time.monotonic() + seconds
        client, other_pool = self.client(), self.client()
        workers = [Worker(number, seed, client, other_pool, end) for number in range(THREADS)]
        for each in workers:
            each.start()
        samples, chosen = [], random.Random(f"{seed}-cuts")
        while any(each.is_alive() for each in workers):
            if time.monotonic() < end:
                self.proxy.half_open = chosen.random() < 0.3
                if chosen.random() < 0.3:
                    # One that waits for something, as likely as not.
                    self.proxy.cut(chosen.choice)
            for key in KEYS:
                sent, info = time.monotonic(), self.info(key)
                if info:
                    owners = [each[b"owner"].decode() for each in info[b"holders"] + info[b"queue"] if each[b"owner"]]
                    samples.append((sent, key, owners))
            time.sleep(0.03)
        self.proxy.faults = None
        # Nothing is left over: every lease is over, and nobody waits who would be granted after that.
        time.sleep(1.5 + 0.1)
        left = {key: self.info(key) for key in KEYS if self.info(key)}

        broken = [each.broken for each in workers if each.broken]
        holds = [hold for each in workers for hold in each.holds]
        wrong, counted = judge(holds, samples)
        released = {token: told for each in workers for token, told in each.released.items()}
        errors = {}
        for each in workers:
            for name, count in each.errors.items():
                errors[name] = errors.get(name, 0) + count
        print(f"{len(released)} turns, {counted}, faults {self.proxy.counts}, given up by the library {errors}", flush=True)
        self.assertEqual(broken, [])
        if wrong:
            self.fail(f"{len(wrong)} findings with REDIS_LOCK_SEED={seed}\n" + "\n".join(wrong[:5]))
        self.assertEqual(left, {})
        # Otherwise it has shown nothing.
        self.assertGreater(counted["certain"], 10 * seconds)
        self.assertGreater(self.proxy.counts.get("close", 0), 0)


if __name__ == "__main__":
    unittest.main()
