"""Threads that work at random behind random faults, judged by history.py and by checker/. REDIS_LOCK_SEED repeats the choices,
though not how threads and server interleave; REDIS_LOCK_SECONDS is how long it goes on (15); in REDIS_LOCK_HISTORY_FOLDER the
history is kept, and beside the module if something is wrong."""

import os
import random
import threading
import time
import unittest

import redis
from history import SHARED, Hold, judge
from proxy import RandomFaults
from recorder import SHOWN, Recorder, RecordingRedis
from server import LockTest

THREADS, KEYS = 8, ("a", "b", "c", "d")
LEASES, LONGEST = (300, 1500), 1.5
# By how much a sample may be late. What is to be found goes on for ever, or for a lease.
SLACK = 0.5


class Worker(threading.Thread):
    def __init__(self, number, seed, client, other_pool, end):
        super().__init__(daemon=True)
        self.number, self.client, self.other_pool, self.end = number, client, other_pool, end
        self.random = random.Random(f"{seed}-{number}")
        self.holds, self.gone, self.expiries, self.errors, self.broken = [], {}, [], {}, None

    def run(self):
        try:
            count = 0
            while time.monotonic() < self.end:
                Turn(self, f"{self.number}-{count}").run()
                count += 1
        except BaseException as error:
            self.broken = error
            raise

    def often(self, share):
        return self.random.random() < share


class Turn:
    """One token: it asks for a lock, works if it is told that it has it, and gives it back, or dies."""

    def __init__(self, worker, token):
        self.worker, self.token, self.hold, self.holds = worker, token, None, []
        self.random, self.often = worker.random, worker.often
        self.key, self.limit = self.random.choice(KEYS), self.random.choice((1, 1, 2, 3, SHARED, SHARED))
        self.session = self.often(0.1)
        self.dies = not self.session and self.often(0.05)

    def call(self, *command):
        """The reply, and whether one came: the library may have given up."""
        try:
            return self.worker.client.execute_command(*command), True
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            self.count(type(error).__name__)
            return None, False

    def count(self, error):
        self.worker.errors[error] = self.worker.errors.get(error, 0) + 1

    def acquire(self, limit, *options):
        """(sent, told, lease, reply, whether it came) of LOCK.ACQUIRE."""
        lease = self.random.randint(*LEASES)
        lease_as = ("PX", lease)
        if self.often(0.1):
            lease, lease_as = 1000, ("EX", 1)
        options = ["TOKEN", self.token, "OWNER", self.token, *lease_as, *options]
        options += ["SHARED"] if limit == SHARED else ["LIMIT", limit] if limit > 1 or self.hold or self.often(0.5) else []
        if self.session and not self.hold:
            options.append("SESSION")
        sent = time.monotonic()
        reply, came = self.call("LOCK.ACQUIRE", self.key, *options)
        told = time.monotonic()
        if reply and (not self.hold or reply[1] != self.hold.fence):
            # If it had one, that was over.
            self.hold = Hold(self.worker.number, self.key, limit, self.token, reply[1], sent, told, lease / 1000,
                             session=self.session)
            self.holds.append(self.hold)
        return sent, told, lease / 1000, reply, came

    def run(self):
        options = []
        if self.often(0.8):
            options += ["BLOCK", self.random.randint(1, 1500)]
        if self.often(0.3):
            options += ["LEVEL", 1]
        release_sent = float("inf")
        try:
            if self.acquire(self.limit, *options)[3]:
                for _ in range(self.random.randint(0, 3)):
                    time.sleep(self.random.random() * 0.08)
                    self.random.choices((self.extend, self.nest, self.check, self.expire, self.change), (8, 6, 4, 1, 1))[0]()
        finally:
            if self.dies:
                # All it has asked for was done by now.
                self.worker.gone[self.token] = time.monotonic() + LONGEST + SLACK
            else:
                release_sent = time.monotonic()
                self.release()
                self.worker.gone[self.token] = time.monotonic()
            for hold in self.holds:
                hold.release_sent = release_sent
            self.worker.holds += self.holds

    def release(self):
        while True:
            try:
                return self.worker.other_pool.execute_command("LOCK.RELEASE", self.key, self.token)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                pass

    def extend(self):
        lease = self.random.randint(*LEASES)
        sent = time.monotonic()
        reply, came = self.call("LOCK.EXTEND", self.key, self.token, "PX", lease)
        self.hold.extensions.append((sent, time.monotonic(), lease / 1000, bool(reply) if came else None, False))

    def nest(self):
        sent, told, lease, reply, came = self.acquire(self.limit, "LEVEL", 2)
        self.hold.extensions.append((sent, told, lease, bool(reply) if came else None, True))
        time.sleep(self.random.random() * 0.03)
        self.call("LOCK.RELEASE", self.key, self.token, "LEVEL", 2)

    def check(self):
        reply, _ = self.call("LOCK.CHECK", self.key, self.token)
        assert not reply or reply[0] == self.hold.fence, f"CHECK tells another fence: {reply}, {self.hold}"

    def expire(self):
        ttl = self.random.randint(100, 1500)
        sent = time.monotonic()
        _, came = self.call("PEXPIRE", self.key, ttl)
        self.worker.expiries.append((self.key, sent, time.monotonic() if came else float("inf"), ttl / 1000))

    def change(self):
        """Asks for another limit, with which a reader becomes a writer, or a writer a reader."""
        limit = SHARED if self.limit == 1 else 1
        before = self.hold
        try:
            sent, told, lease, reply, came = self.acquire(limit, *(("BLOCK", 200) if self.often(0.5) else ()))
        except redis.exceptions.ResponseError as error:
            if not str(error).startswith("DEADLOCK"):
                raise
            return self.count("DEADLOCK")
        if reply:
            self.limit = limit
        if reply or not came:
            before.most = self.hold.most = max(before.most, self.hold.most, limit)
            before.extensions.append((sent, told, lease, True if reply and self.hold is before else None, False))


class Workload(LockTest):
    def test_random_work_behind_random_faults(self):
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        seconds = float(os.environ.get("REDIS_LOCK_SECONDS") or 15)
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        recorder = Recorder()
        self.proxy.faults = RandomFaults(
            f"{seed}-faults", close=0.06, cut=0.04, delay=0.06, trickle=0.02, swallow=0.002, late=0.06)
        self.proxy.closing = recorder.closing
        end = time.monotonic() + seconds
        client, other_pool, watcher = (
            RecordingRedis(recorder, pool, port)
            for pool, port in enumerate((self.proxy.port, self.proxy.port, self.server.port)))
        for each in client, other_pool, watcher:
            self.addCleanup(each.close)
        workers = [Worker(number, seed, client, other_pool, end) for number in range(THREADS)]
        for each in workers:
            each.start()
        samples = self.watch(workers, watcher, end, random.Random(f"{seed}-cuts"))
        self.proxy.faults = None
        # Nothing is left over: every lease is over, and nobody waits who would be granted after that.
        time.sleep(LONGEST + SLACK)
        left = {key: self.info(key) for key in KEYS if self.info(key)}

        broken = [each.broken for each in workers if each.broken]
        holds = [hold for each in workers for hold in each.holds]
        gone = {token: told for each in workers for token, told in each.gone.items()}
        expiries = [expiry for each in workers for expiry in each.expiries]
        wrong, counted = judge(holds, samples, gone, expiries)
        errors = {}
        for each in workers:
            for name, count in each.errors.items():
                errors[name] = errors.get(name, 0) + count
        print(f"{len(gone)} turns, {counted}, faults {self.proxy.counts}, errors {errors}", flush=True)
        said = recorder.checked(seed)
        self.assertEqual(broken, [])
        if wrong:
            said = f"{len(wrong)} findings of history.py:\n" + "\n".join(wrong)[:SHOWN] + "\n\n" + said
        if said:
            self.fail(f"with REDIS_LOCK_SEED={seed}\n{said}")
        self.assertEqual(left, {})
        # Otherwise it has shown nothing.
        self.assertGreater(counted["certain"], 5 * seconds)
        self.assertGreater(self.proxy.counts.get("close", 0), 0)

    def watch(self, workers, watcher, end, chosen):
        """Samples LOCK.INFO, and cuts connections, as long as there is work."""
        samples = []
        while any(each.is_alive() for each in workers):
            if time.monotonic() < end:
                self.proxy.half_open = chosen.random() < 0.3
                if chosen.random() < 0.3:
                    # One that waits for something, as likely as not.
                    self.proxy.cut(chosen.choice)
            for key in KEYS:
                sent, info = time.monotonic(), watcher.execute_command("LOCK.INFO", key)
                if info:
                    samples.append((sent, key, [each[b"owner"].decode() for each in info[b"holders"] + info[b"queue"]]))
            time.sleep(0.03)
        return samples


if __name__ == "__main__":
    unittest.main()
