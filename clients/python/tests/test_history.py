"""Threads and tasks that contend behind a proxy that loses replies. What they were told is judged by history.py and by
checker/ (REDIS_LOCK_CHECKER), as in tests/redis_py. And what the client itself says of a lock is judged: from `held` before to
`held` after, no other has it. REDIS_LOCK_SEED repeats the choices; REDIS_LOCK_SECONDS is how long it goes on (15)."""

import asyncio
import os
import random
import subprocess
import threading
import time
import unittest

import redis
import redis.asyncio
from support import Loop, ServerTest, eventually  # isort: skip
from proxy import RandomFaults
from recorder import Recorder, answer_to, as_written

import redis_lock_client
import redis_lock_client._server
import redis_lock_client.asyncio
import redis_lock_client.asyncio._server
from redis_lock_client.errors import LockError

WORKERS, NAMES = 8, ("a", "b", "c")
LONGEST = 1.5
SLACK = 0.5
PASSING = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)


def options_of(chosen):
    how = {"lease": chosen.choice((0.4, 0.8, 1.5)), "wait": chosen.choice((0, 0.3, 2.0, 5.0))}
    kind = chosen.random()
    if kind < 0.3:
        how["shared"] = True
    elif kind < 0.5:
        how["limit"] = 2
    if chosen.random() < 0.2:
        how["renew"] = False
    if chosen.random() < 0.1:
        how["session"] = True
    return how


def most(how):
    """How many hold it together."""
    return float("inf") if how.get("shared") else how.get("limit", 1)


class Told:
    """What clients have said of themselves: from when to when each was sure to hold it."""

    def __init__(self):
        self.spans, self.counts = {}, {}

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    def overlapping(self):
        wrong, open_now = [], {}
        for name, begin, end, limit, how in sorted(self.spans.values(), key=lambda each: each[1]):
            here = [each for each in open_now.get(name, []) if each[0] > begin] + [(end, limit, how)]
            if len(here) > min(each[1] for each in here):
                wrong.append(f"{name} at {begin}: {here}")
            open_now[name] = here
        return wrong


def watch(held, told, begin, limit):
    """It was held until now, from when it was acquired."""
    asked = time.monotonic()
    if held.held:
        if held._options.session:
            # The server has ended it some moments before its end of the connection is there to be seen.
            asked -= 0.02
        told.spans[held.fence] = (held.name, begin, max(begin, asked), limit, held._options)


def local_port(connection):
    """Of a connection of either kind, or None while it is not open."""
    sock = getattr(connection, "_sock", None)
    writer = getattr(connection, "_writer", None)
    try:
        return sock.getsockname()[1] if sock else writer.get_extra_info("sockname")[1] if writer else None
    except (OSError, TypeError):
        return None


class History(ServerTest):
    def setUp(self):
        super().setUp()
        self.seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        self.end = time.monotonic() + float(os.environ.get("REDIS_LOCK_SECONDS") or 15)
        print(f"REDIS_LOCK_SEED={self.seed}", flush=True)
        self.recorder, self.told = Recorder(), Told()
        self.proxy.faults = RandomFaults(
            f"{self.seed}-faults", close=0.05, cut=0.03, delay=0.05, trickle=0.01, swallow=0.002, late=0.05)  # fmt: skip
        self.proxy.seconds = 0.05
        self.proxy.closing = self.recorder.closing

    def record(self, module, change):
        """Has each client of ours, made by `like`, write down what it sends."""
        like = module.like

        def recorded(*args, **also):
            client = like(*args, **also)
            change(client)
            return client

        module.like = recorded
        self.addCleanup(setattr, module, "like", like)

    def note(self, sent, port, words, answer):
        # The local port names the connection: it is not used twice in so short a time.
        ask = as_written(words)
        if ask:
            name = f"c0.{port or 0}"
            self.recorder.by_port[port] = name
            self.recorder.write(sent, time.monotonic(), name, ask, answer)

    def test_threads_behind_random_faults(self):
        def change(client):
            original = client._send_command_parse_response

            def send(conn, command_name, *words, **options):
                sent, answer, port = time.monotonic(), "gave-up", local_port(conn)
                try:
                    reply = original(conn, command_name, *words, **options)
                    answer = answer_to(words[0], reply) if as_written(words) else ""
                    return reply
                except redis.exceptions.ResponseError as error:
                    answer = f"error {error}"
                    raise
                finally:
                    self.note(sent, port or local_port(conn), words, answer)

            client._send_command_parse_response = send

        self.record(redis_lock_client._server, change)
        client = redis_lock_client.LockClient(redis.Redis(port=self.proxy.port, socket_timeout=1), blocked=4)
        self.addCleanup(client.close)

        def turn(chosen):
            name, how = chosen.choice(NAMES), options_of(chosen)
            try:
                held = client.acquire(name, level=1, **how)
            except (LockError, *PASSING) as error:
                return self.told.count(type(error).__name__)
            if held is None:
                return self.told.count("not available")
            begin = time.monotonic()
            for _ in range(chosen.randint(1, 4)):
                time.sleep(chosen.random() * 0.3)
                watch(held, self.told, begin, most(how))
                if chosen.random() < 0.2:
                    try:
                        held.extend(chosen.choice((0.4, 1.0)))
                    except PASSING:
                        pass
            self.told.count("released" if held.release() else "lost")

        def work(number):
            chosen = random.Random(f"{self.seed}-{number}")
            while time.monotonic() < self.end:
                turn(chosen)

        self.join([threading.Thread(target=work, args=(number,), daemon=True) for number in range(WORKERS)])
        self.judge()

    def join(self, threads):
        for each in threads:
            each.start()
        chosen = random.Random(f"{self.seed}-cuts")
        while any(each.is_alive() for each in threads):
            time.sleep(0.05)
            if time.monotonic() < self.end and chosen.random() < 0.1:
                self.proxy.cut(chosen.choice)

    def test_tasks_behind_random_faults(self):
        def change(client):
            original = client._send_command_parse_response

            async def send(conn, command_name, *words, **options):
                sent, answer, port = time.monotonic(), "gave-up", local_port(conn)
                try:
                    reply = await original(conn, command_name, *words, **options)
                    answer = answer_to(words[0], reply) if as_written(words) else ""
                    return reply
                except redis.exceptions.ResponseError as error:
                    answer = f"error {error}"
                    raise
                finally:
                    self.note(sent, port or local_port(conn), words, answer)

            client._send_command_parse_response = send

        self.record(redis_lock_client.asyncio._server, change)

        async def turn(client, chosen):
            name, how = chosen.choice(NAMES), options_of(chosen)
            acquiring = asyncio.create_task(client.acquire(name, level=1, **how))
            if chosen.random() < 0.1:
                asyncio.get_running_loop().call_later(chosen.random(), acquiring.cancel)
            try:
                held = await acquiring
            except (LockError, asyncio.CancelledError, *PASSING) as error:
                return self.told.count(type(error).__name__)
            if held is None:
                return self.told.count("not available")
            begin = time.monotonic()
            for _ in range(chosen.randint(1, 4)):
                await asyncio.sleep(chosen.random() * 0.3)
                watch(held, self.told, begin, most(how))
                if chosen.random() < 0.2:
                    try:
                        await held.extend(chosen.choice((0.4, 1.0)))
                    except PASSING:
                        pass
            self.told.count("released" if await held.release() else "lost")

        async def work(client, number):
            chosen = random.Random(f"{self.seed}-{number}")
            while time.monotonic() < self.end:
                await turn(client, chosen)

        async def all_of_it():
            some = redis.asyncio.Redis(port=self.proxy.port, socket_timeout=1)
            async with redis_lock_client.asyncio.LockClient(some) as client:
                await asyncio.gather(*(work(client, number) for number in range(WORKERS)))
            await some.aclose()

        self.join([threading.Thread(target=lambda: Loop.run(all_of_it(), 120), daemon=True)])
        self.judge()

    def judge(self):
        print(f"{self.told.counts}, faults {self.proxy.counts}", flush=True)
        self.assertEqual(self.told.overlapping(), [])
        self.assertGreater(self.told.counts.get("released", 0), 20)
        self.assertGreater(self.proxy.counts.get("close", 0), 0)
        for name in NAMES:
            left = lambda: self.info(name)["held"] + self.info(name)["waiting"]  # noqa: E731
            self.assertTrue(eventually(lambda: not left(), LONGEST + SLACK + 5), self.info(name))
        checker = os.environ.get("REDIS_LOCK_CHECKER")
        if not checker:
            self.skipTest("REDIS_LOCK_CHECKER does not name the program of checker/")
        path = os.path.join(self.server.folder, "history")
        with open(path, "w") as file:
            file.write(self.recorder.text())
        found = subprocess.run([checker, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(found.stdout.splitlines()[-1], flush=True)
        self.assertEqual(found.returncode, 0, found.stdout[:4000])


if __name__ == "__main__":
    unittest.main()
