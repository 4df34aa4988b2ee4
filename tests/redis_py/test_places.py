"""Places in the queue that outlive the connection, with redis-py as it comes: clients that time out, whose connections are
killed, or that die; and QUEUE where nothing can block: in a transaction, a script, a function."""

import signal
import subprocess
import sys
import threading
import time
import unittest

import redis
from places import PlacesTest
from redis.backoff import NoBackoff
from redis.retry import Retry
from server import Call, eventually

WAITED = 10000  # milliseconds


class Turns(PlacesTest):
    def queue_up(self, *who):
        """One after the other, while somebody holds the lock. `who` are (client, token, options, pause)."""
        self.hold()
        waiters = []
        for client, token, options, pause in who:
            waiters.append(self.waiter(client, token, *options, pause=pause))
            self.assertTrue(eventually(lambda: self.waiting() == [each.token for each in waiters]), token)
        return waiters

    def later(self):
        """A client that comes later and waits on one connection, which nothing happens to."""
        return self.client(self.server.port, socket_timeout=None), "later", ("BLOCK", 0), 0

    def assert_nobody_was_overtaken_for_ten_seconds(self, waiters):
        tokens = [each.token for each in waiters]
        # The repeats do not begin a new wait.
        self.assertTrue(eventually(lambda: self.places()[0][b"waited"] >= WAITED, 30))
        self.assertEqual(self.waiting(), tokens)

    def test_clients_with_a_short_socket_timeout_get_the_lock_in_their_turn(self):
        waiters = self.queue_up(
            # Each try times out. After 11 of them the library gives up, and the client calls again.
            (self.client(socket_timeout=0.3), "times out", ("BLOCK", 30000, "QUEUE", 10000), 0),
            (self.client(socket_timeout=0.3), "slices", ("BLOCK", 200, "QUEUE", 10000), 0),
            (self.client(socket_timeout=0.3), "repeats", ("QUEUE", 10000), 0.1),
            self.later(),
        )
        self.assert_nobody_was_overtaken_for_ten_seconds(waiters)
        self.assertEqual(self.release("holder"), 1)
        self.assert_served_in_turn(waiters)
        times_out, slices, repeats, _ = waiters
        self.assertGreaterEqual(times_out.given_up, 1)
        for each in times_out, slices, repeats:
            self.assertGreater(self.times_asked(each.token), 11)
        # They had one place all the time.
        self.assertEqual([len(each.tickets) for each in (slices, repeats)], [1, 1])

    def test_clients_whose_connections_are_killed_every_second_get_the_lock_in_their_turn(self):
        kills, ended = {b"blocks": 0, b"repeats": 0}, threading.Event()
        port = self.server.port

        def kill():
            with redis.Redis(port=port) as operator:
                while not ended.wait(1):
                    for each in operator.client_list():
                        if each["name"].encode() in kills:
                            kills[each["name"].encode()] += operator.client_kill_filter(_id=each["id"])

        killer = threading.Thread(target=kill, daemon=True)
        waiters = self.queue_up(
            (self.client(port, client_name="blocks"), "blocks", ("BLOCK", 30000, "QUEUE", 10000), 0),
            (self.client(port, client_name="repeats"), "repeats", ("QUEUE", 10000), 0.05),
            self.later(),
        )
        killer.start()
        self.addCleanup(killer.join)
        self.addCleanup(ended.set)
        self.assert_nobody_was_overtaken_for_ten_seconds(waiters)
        # It goes on while they are granted the lock.
        self.assertEqual(self.release("holder"), 1)
        self.assert_served_in_turn(waiters)
        self.assertGreaterEqual(min(kills.values()), 5, kills)
        self.assertEqual(len(waiters[1].tickets), 1)

    def test_a_client_that_is_killed_just_before_or_after_its_grant_gets_the_lock_in_its_turn(self):
        blocks, later = self.client(self.server.port), self.client(self.server.port)
        for round in range(60):
            for kill_first in (True, False):
                for transaction in (True, False):
                    key = f"{self.key}-{round}-{kill_first}-{transaction}"
                    self.direct.execute_command("LOCK.ACQUIRE", key, "TOKEN", "holder")
                    waiters = [self.waiter(blocks, "blocks", "BLOCK", 0, "QUEUE", 60000, key=key)]
                    self.assertTrue(eventually(lambda: self.waiting(key) == ["blocks"]))
                    waiters.append(self.waiter(later, "later", "BLOCK", 0, key=key))
                    self.assertTrue(eventually(lambda: self.waiting(key) == ["blocks", "later"]))
                    both = [("LOCK.RELEASE", key, "holder"), ("CLIENT", "KILL", "ID", self.places(key)[0][b"client"])]
                    with self.direct.pipeline(transaction=transaction) as pipeline:
                        for command in reversed(both) if kill_first else both:
                            pipeline.execute_command(*command)
                        self.assertEqual(pipeline.execute(), [1, 1])
                    self.assert_served_in_turn(waiters, key)

    def test_who_has_claimed_the_lock_keeps_it_though_the_grant_to_its_older_connection_is_lost(self):
        # It does not ask again.
        older = self.client(self.server.port, retry=Retry(NoBackoff(), 0))
        claims = {
            "retry": (("LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "mine"), lambda reply: reply[0] == b"mine"),
            "extend": (("LOCK.EXTEND", self.key, "mine", "PX", 60000), lambda reply: reply == 1),
        }
        for name, (claim, is_granted) in claims.items():
            for transaction in (True, False):
                with self.subTest(name, transaction=transaction):
                    self.hold()
                    wait = Call(older, "LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "mine", "OWNER", "mine",
                                "BLOCK", 0, "QUEUE", 60000)
                    self.assertTrue(eventually(lambda: self.waiting() == ["mine"]))
                    self.take_place("next")
                    with self.direct.pipeline(transaction=transaction) as pipeline:
                        pipeline.execute_command("LOCK.RELEASE", self.key, "holder")
                        pipeline.execute_command(*claim)
                        pipeline.execute_command("CLIENT", "KILL", "ID", self.places()[0][b"client"])
                        pipeline.execute_command("LOCK.CHECK", self.key, "mine")
                        released, claimed, killed, (fence, remaining, waiting) = pipeline.execute()
                    self.assertEqual((released, killed, waiting), (1, 1, 1))
                    self.assertTrue(is_granted(claimed), claimed)
                    self.assertGreater(remaining, 30000)
                    with self.assertRaises(redis.exceptions.ConnectionError):
                        wait.result()
                    (hold,) = self.holders()
                    self.assertEqual(hold[b"fence"], fence)
                    self.assertGreater(hold[b"remaining"], 30000)
                    self.assertEqual([self.release(each) for each in ("mine", "next")], [1, 1])
                    self.assert_nothing_left()

    def test_a_place_without_a_connection_keeps_its_ticket_over_every_way_to_ask(self):
        self.hold()
        client = self.client()
        ticket = self.ask(client, "mine", "BLOCK", 50, "QUEUE", 60000)
        self.assertIsInstance(ticket, int)
        self.take_place("next")
        for options in (("QUEUE", 60000), ("BLOCK", 50, "QUEUE", 60000), ("QUEUE", 30000)):
            self.assertEqual(self.ask(client, "mine", *options), ticket)
            self.assertEqual(self.waiting(), ["mine", "next"])
        first = self.places()[0]
        self.assertEqual(first[b"ticket"], ticket)
        self.assertTrue(0 < first[b"timeout"] <= 30000, first)
        # A look does not change it.
        self.assertIsNone(self.ask(client, "mine"))
        self.assertEqual(self.places()[0][b"ticket"], ticket)
        self.assertEqual(self.release("holder"), 1)
        _, fence = self.ask(client, "mine")
        self.assertEqual(self.fences(), [fence])
        self.assertEqual([self.release(each) for each in ("mine", "next")], [1, 1])
        self.assert_nothing_left()


# Waits in a process of its own until that is killed.
CLIENT = """
import sys
import redis
port, key, token, *options = sys.argv[1:]
client = redis.Redis("127.0.0.1", int(port))
client.execute_command("LOCK.ACQUIRE", key, "PX", 60000, "TOKEN", token, "OWNER", token, *options)
sys.stdin.read()
"""
WAYS = {"blocked": ("BLOCK", 0), "with a place only": ()}


class Deaths(PlacesTest):
    def process(self, token, *options):
        """A process that is there in the queue, behind all others."""
        before = self.waiting()
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", CLIENT, *map(str, (self.server.port, self.key, token, *options))],
            stdin=subprocess.PIPE)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertTrue(eventually(lambda: self.waiting() == [*before, token], 20))
        return process

    def die(self, process, token="dies"):
        """Until the server has seen it: the place is there without a connection then."""
        process.kill()
        process.wait()
        self.assertTrue(eventually(lambda: b"ticket" in next(
            each for each in self.places() if each[b"owner"] == token.encode())))

    def several(self):
        return {f"dies-{number}": options for number, options in enumerate((*WAYS.values(), *WAYS.values()))}

    def next(self):
        """Those behind, one blocked and one with a place only, which it repeats."""
        waiters = [self.waiter(self.client(), "next", "BLOCK", 30000)]
        self.assertTrue(eventually(lambda: self.waiting()[-1] == "next"))
        waiters.append(self.waiter(self.client(), "last", "QUEUE", 60000, pause=0.05))
        self.assertTrue(eventually(lambda: self.waiting()[-1] == "last"))
        return waiters

    def test_who_dies_keeps_its_place_for_no_longer_than_its_queue_time(self):
        for name, options in WAYS.items():
            with self.subTest(name):
                self.hold()
                process, waiters = self.process("dies", *options, "QUEUE", 4000), self.next()
                self.die(process)
                place = self.places()[0]
                self.assertEqual(place[b"owner"], b"dies")
                self.assertTrue(0 < place[b"timeout"] <= 4000, place)
                self.assertEqual(self.waiting(), ["dies", "next", "last"])
                self.assertTrue(eventually(lambda: self.waiting() == ["next", "last"], 20))
                self.assertEqual(self.release("holder"), 1)
                self.assert_served_in_turn(waiters)

    def test_who_dies_before_its_turn_holds_the_lock_for_the_claim_lease_and_no_longer(self):
        self.claim_lease(1500)
        for name, options in WAYS.items():
            with self.subTest(name):
                self.hold()
                process, waiters = self.process("dies", *options, "QUEUE", 600000), self.next()
                self.die(process)
                sent = time.monotonic()
                self.assertEqual(self.release("holder"), 1)
                (hold,) = self.holders()
                self.assertEqual(hold[b"owner"], b"dies")
                self.assertLessEqual(hold[b"remaining"], 1500)
                self.assertEqual(self.waiting(), ["next", "last"])
                self.assertGreater(waiters[0].result(), hold[b"fence"])
                # By no less either: who comes in time has the lock. The server counts whole milliseconds.
                self.assertGreaterEqual(time.monotonic() - sent, 1.499)
                self.assertEqual(self.direct.execute_command("LOCK.EXTEND", self.key, "dies"), 0)
                self.assert_served_in_turn(waiters)

    def test_who_is_killed_just_before_or_after_its_grant_holds_the_lock_for_the_claim_lease_and_no_longer(self):
        self.claim_lease(1500)
        for kill_first in (True, False):
            for transaction in (True, False):
                with self.subTest(kill_first=kill_first, transaction=transaction):
                    self.hold()
                    process, waiters = self.process("dies", "BLOCK", 0, "QUEUE", 600000), self.next()
                    messages = self.messages(self.client())
                    # It does not ask again.
                    process.send_signal(signal.SIGSTOP)
                    both = [("LOCK.RELEASE", self.key, "holder"), ("CLIENT", "KILL", "ID", self.places()[0][b"client"])]
                    with self.direct.pipeline(transaction=transaction) as pipeline:
                        for command in reversed(both) if kill_first else both:
                            pipeline.execute_command(*command)
                        self.assertEqual(pipeline.execute(), [1, 1])
                    (hold,) = self.holders()
                    self.assertEqual(hold[b"owner"], b"dies")
                    self.assertLessEqual(hold[b"remaining"], 1500)
                    self.assertEqual(self.waiting(), ["next", "last"])
                    self.assertTrue(eventually(lambda: messages.tickets))
                    self.assertLess(messages.tickets[0], waiters[1].tickets[0])
                    self.assert_served_in_turn(waiters)
                    messages.stop()
                    process.kill()

    def test_who_dies_behind_others_holds_them_up_no_longer_either(self):
        self.hold()
        first = self.waiter(self.client(), "first", "QUEUE", 60000, pause=0.05)
        self.assertTrue(eventually(lambda: self.waiting() == ["first"]))
        processes = {token: self.process(token, *options, "QUEUE", 600000) for token, options in self.several().items()}
        last = self.waiter(self.client(), "last", "QUEUE", 60000, pause=0.05)
        self.assertTrue(eventually(lambda: self.waiting()[-1] == "last"))
        for token, process in processes.items():
            self.die(process, token)
        self.assertEqual(self.release("holder"), 1)
        fence = first.result()
        self.assertEqual(self.waiting(), [*processes, "last"])
        self.claim_lease(1000)
        self.assertEqual(self.release("first"), 1)
        # Each of them was granted the lock and did not claim it.
        self.assertGreater(last.result(), fence + len(processes))
        self.assert_served_in_turn([last])

    def test_nothing_is_left_of_those_who_all_died(self):
        self.claim_lease(300)
        self.hold()
        processes = {token: self.process(token, *options, "QUEUE", 600000) for token, options in self.several().items()}
        for token, process in processes.items():
            self.die(process, token)
        self.assertEqual(self.release("holder"), 1)
        self.assertTrue(eventually(lambda: self.info() is None, 20))


SCRIPT = """
return redis.call(
    'LOCK.ACQUIRE', KEYS[1], 'PX', 60000, 'TOKEN', ARGV[1], 'OWNER', ARGV[1], 'BLOCK', 0, 'QUEUE', 60000)
"""


class WhereNothingBlocks(PlacesTest):
    """BLOCK 0 is as if not given there."""

    def each_way(self, client):
        """Functions that ask with a token and give the reply back."""
        script = client.register_script(SCRIPT)
        client.function_load(
            f"#!lua name=places\nredis.register_function('take_place', function(KEYS, ARGV) {SCRIPT} end)", replace=True)

        def in_pipeline(token):
            with client.pipeline() as pipeline:
                pipeline.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", token, "OWNER", token, "BLOCK", 0, "QUEUE", 60000)
                pipeline.get("x")
                reply, _ = pipeline.execute()
                return reply

        return {
            "transaction": in_pipeline,
            "script": lambda token: script(keys=[self.key], args=[token]),
            "function": lambda token: client.fcall("take_place", 1, self.key, token),
            "command": lambda token: self.ask(client, token, "QUEUE", 60000),
        }

    def test_each_way_keeps_a_place_and_is_told_of_the_lock_as_any_other(self):
        for protocol in (2, 3):
            with self.subTest(protocol=protocol):
                client = self.client(protocol=protocol)
                messages = self.messages(self.client(self.server.port, protocol=protocol))
                ways = self.each_way(client)
                self.hold()
                tickets = {name: ask(name) for name, ask in ways.items()}
                self.assertEqual(self.waiting(), list(ways))
                self.assertEqual([each[b"ticket"] for each in self.places()], list(tickets.values()))
                self.assertEqual(sorted(set(tickets.values())), list(tickets.values()))
                # Any of them repeats what another has begun.
                for ask in ways.values():
                    self.assertEqual({name: ask(name) for name in ways}, tickets)
                self.assertEqual(self.waiting(), list(ways))
                holder = "holder"
                for name, ask in ways.items():
                    self.assertEqual(self.release(holder), 1)
                    self.assertTrue(messages.wait(tickets[name], 10))
                    (hold,) = self.holders()
                    self.assertLessEqual(hold[b"remaining"], 20000)
                    self.assertEqual(ask(name), [name.encode(), hold[b"fence"]])
                    # Its own lease has begun.
                    self.assertGreater(self.holders()[0][b"remaining"], 30000)
                    holder = name
                self.assertEqual(messages.tickets, list(tickets.values()))
                self.assertEqual(self.release(holder), 1)
                self.assert_nothing_left()

    def test_a_transaction_gives_a_lock_back_and_takes_a_place_for_another(self):
        other = f"{self.key}-other"
        self.hold()
        self.direct.execute_command("LOCK.ACQUIRE", other, "PX", 60000, "TOKEN", "other", "OWNER", "other")
        mine = self.take_place("mine")
        client = self.client()
        with client.pipeline() as pipeline:
            pipeline.execute_command("LOCK.RELEASE", self.key, "holder")
            pipeline.execute_command("LOCK.ACQUIRE", self.key, "TOKEN", "mine")
            pipeline.execute_command("LOCK.ACQUIRE", other, "TOKEN", "mine", "OWNER", "mine", "QUEUE", 60000)
            released, granted, ticket = pipeline.execute()
        self.assertEqual((released, granted[0]), (1, b"mine"))
        self.assertGreater(ticket, mine)
        self.assertEqual(self.waiting(other), ["mine"])
        with client.pipeline() as pipeline:
            for key, token in ((self.key, "mine"), (other, "mine"), (other, "other")):
                pipeline.execute_command("LOCK.RELEASE", key, token)
            self.assertEqual(pipeline.execute(), [1, 0, 1])
        self.assert_nothing_left()
        self.assert_nothing_left(other)

    def test_one_connection_of_resp3_hears_the_message_and_claims_the_lock(self):
        self.hold()
        pubsub = self.client(protocol=3).pubsub()
        self.addCleanup(pubsub.close)
        pubsub.ssubscribe(self.key)

        def hear():
            return pubsub.parse_response(block=False, timeout=10)

        def ask():
            pubsub.execute_command("LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "mine", "QUEUE", 60000)
            return hear()

        self.assertEqual(hear()[0], b"ssubscribe")

        ticket = ask()
        self.assertEqual(ticket, self.places()[0][b"ticket"])
        self.assertEqual(ask(), ticket)
        self.assertEqual(self.release("holder"), 1)
        self.assertEqual(hear(), [b"smessage", self.key.encode(), str(ticket).encode()])
        self.assertEqual(ask(), [b"mine", self.fences()[0]])
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
