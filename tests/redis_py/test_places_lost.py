"""Places in the queue behind a proxy that loses what a client would be told: of its place, of its lock, of the end of both. A
client that sends the same again is told the same again, and nobody overtakes it."""

import functools
import os
import random
import threading
import time
import unittest

from places import LOST, PlacesTest
from proxy import EachOnce, OnceThen, RandomFaults
from server import eventually

FAULTS = ("close", "cut", "swallow")
THREADS, SECONDS = 8, 10


def for_each_fault(test):
    """Runs it with a key of its own that somebody holds, behind a proxy that does nothing yet. It ends with nothing left."""

    @functools.wraps(test)
    def run(self):
        for fault in FAULTS:
            with self.subTest(fault):
                self.key = f"{test.__name__}-{fault}"
                self.proxy.faults = None
                self.hold()
                self.replies()
                test(self, fault, self.client())
                self.assert_nothing_left()

    return run


class LostReplies(PlacesTest):
    def setUp(self):
        super().setUp()
        self.told = []

    def replies(self):
        """Those that the server has given since this was asked last, lost or not."""
        replies = [reply for _, reply in self.proxy.replied[len(self.told) :]]
        self.told += replies
        return replies

    @for_each_fault
    def test_who_was_not_told_of_its_place_has_it(self, fault, client):
        # Another comes before the repeat, which is five seconds later where the reply is swallowed.
        self.proxy.faults = OnceThen(fault, {b"LOCK.ACQUIRE"}, lambda: self.take_place("next"))
        ticket = self.ask(client, "mine", "QUEUE", 60000)
        self.assertEqual(self.replies(), [b":%d\r\n" % ticket] * 2)
        self.assertEqual(self.waiting(), ["mine", "next"])
        self.assertEqual(self.release("holder"), 1)
        _, fence = self.ask(client, "mine", "QUEUE", 60000)
        self.assertEqual(self.fences(), [fence])
        self.assertEqual([self.release(each) for each in ("mine", "next")], [1, 1])

    @for_each_fault
    def test_who_was_not_told_that_block_has_ended_has_its_place(self, fault, client):
        self.proxy.faults = OnceThen(fault, {b"LOCK.ACQUIRE"}, lambda: self.take_place("next"))
        ticket = self.ask(client, "mine", "BLOCK", 100, "QUEUE", 60000)
        self.assertEqual(self.replies(), [b":%d\r\n" % ticket] * 2)
        self.assertEqual(self.waiting(), ["mine", "next"])
        self.assertEqual([self.release(each) for each in ("holder", "mine", "next")], [1, 1, 1])

    def test_a_wait_that_is_repeated_while_the_server_has_not_seen_the_old_connection_end_keeps_its_place(self):
        self.hold()
        self.proxy.half_open = True
        first = self.waiter(self.client(socket_timeout=1), "first", "BLOCK", 30000, "QUEUE", 60000)
        self.assertTrue(eventually(lambda: self.waiting() == ["first"]))
        last = self.waiter(self.client(self.server.port, socket_timeout=None), "last", "BLOCK", 0)
        self.assertTrue(eventually(lambda: len(self.proxy.replied) >= 2, 20))
        # The older requests are told the ticket, where nobody listens any more.
        (reply,) = set(self.replies())
        self.assertRegex(reply, rb"^:[1-9][0-9]*\r\n$")
        self.assertEqual(self.waiting(), ["first", "last"])
        self.assertEqual(self.release("holder"), 1)
        self.assert_served_in_turn([first, last])

    @for_each_fault
    def test_who_was_not_told_of_its_lock_is_told_the_same_fence(self, fault, client):
        self.assertIsInstance(self.ask(client, "mine", "QUEUE", 60000), int)
        self.take_place("next")
        self.assertEqual(self.release("holder"), 1)
        (hold,) = self.holders()
        self.assertEqual(hold[b"owner"], b"mine")
        self.assertLessEqual(hold[b"remaining"], 20000)
        self.replies()
        self.proxy.faults = EachOnce(fault, {b"LOCK.ACQUIRE"})
        self.assertEqual(self.ask(client, "mine", "QUEUE", 60000), [b"mine", hold[b"fence"]])
        replies = self.replies()
        self.assertEqual((len(replies), len(set(replies))), (2, 1))
        # Its own lease has begun.
        self.assertGreater(self.holders()[0][b"remaining"], 30000)
        self.assertEqual(self.waiting(), ["next"])
        self.assertEqual([self.release(each) for each in ("mine", "next")], [1, 1])

    def test_who_was_not_told_of_its_claim_has_claimed(self):
        self.hold()
        client = self.client()
        self.ask(client, "mine", "QUEUE", 60000)
        self.claim_lease(2000)
        self.assertEqual(self.release("holder"), 1)
        fence = self.fences()
        self.proxy.faults = EachOnce("swallow", {b"LOCK.ACQUIRE"})
        # The repeat comes after five seconds.
        self.assertEqual([self.ask(client, "mine", "QUEUE", 60000)[1]], fence)
        self.assertEqual(self.proxy.counts, {"swallow": 1})
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()

    @for_each_fault
    def test_a_grant_to_a_blocked_client_that_was_not_told_is_told_to_its_repeat(self, fault, client):
        self.proxy.faults = EachOnce(fault, {b"LOCK.ACQUIRE"})
        # It times out later than the lock is given back.
        first = self.waiter(client, "first", "BLOCK", 30000, "QUEUE", 60000)
        self.assertTrue(eventually(lambda: self.waiting() == ["first"]))
        last = self.waiter(self.client(self.server.port, socket_timeout=None), "last", "BLOCK", 0)
        self.assertTrue(eventually(lambda: self.waiting() == ["first", "last"]))
        self.assertEqual(self.release("holder"), 1)
        fence = self.fences()
        self.assertEqual([first.result()], fence)
        replies = self.replies()
        self.assertEqual((len(replies), len(set(replies))), (2, 1))
        self.assert_served_in_turn([first, last])

    @for_each_fault
    def test_a_release_that_is_repeated_ends_one_hold_and_no_place_of_another(self, fault, client):
        self.ask(client, "mine", "QUEUE", 60000)
        self.take_place("next")
        self.take_place("last")
        self.assertEqual(self.release("holder"), 1)
        self.ask(client, "mine", "QUEUE", 60000)
        self.replies()
        self.proxy.faults = EachOnce(fault, {b"LOCK.RELEASE"})
        # The first one did it; the caller is told of the second.
        self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine"), 0)
        self.assertEqual(self.replies(), [b":1\r\n", b":0\r\n"])
        self.assertEqual(self.holders()[0][b"owner"], b"next")
        self.assertEqual(self.waiting(), ["last"])
        self.assertEqual([self.release(each) for each in ("next", "last")], [1, 1])

    @for_each_fault
    def test_a_release_that_is_repeated_gives_up_one_place(self, fault, client):
        self.ask(client, "mine", "QUEUE", 60000)
        self.take_place("next")
        self.replies()
        self.proxy.faults = EachOnce(fault, {b"LOCK.RELEASE"})
        self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine"), 0)
        self.assertEqual(self.replies(), [b":0\r\n"] * 2)
        self.assertEqual(self.waiting(), ["next"])
        self.assertEqual([self.release(each) for each in ("holder", "next")], [1, 1])

    @for_each_fault
    def test_a_release_that_is_repeated_gives_up_a_lock_that_was_never_claimed(self, fault, client):
        self.ask(client, "mine", "QUEUE", 60000)
        self.take_place("next")
        self.assertEqual(self.release("holder"), 1)
        self.replies()
        self.proxy.faults = EachOnce(fault, {b"LOCK.RELEASE"})
        self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine"), 0)
        self.assertEqual(self.replies(), [b":1\r\n", b":0\r\n"])
        self.assertEqual(self.holders()[0][b"owner"], b"next")
        self.assertEqual(self.release("next"), 1)

    @for_each_fault
    def test_a_transaction_that_is_repeated_keeps_its_place(self, fault, client):
        self.proxy.hits = (b"EXEC",)
        self.proxy.faults = OnceThen(fault, {b"EXEC"}, lambda: self.take_place("next"))
        with client.pipeline() as pipeline:
            pipeline.execute_command("LOCK.ACQUIRE", self.key, "TOKEN", "mine", "OWNER", "mine", "QUEUE", 60000)
            (ticket,) = pipeline.execute()
        # EXEC is the same command whatever it runs: it is hit once, and both have run.
        self.assertEqual(self.replies(), [b"*1\r\n:%d\r\n" % ticket] * 2)
        self.assertEqual(self.waiting(), ["mine", "next"])
        self.assertEqual([self.release(each) for each in ("holder", "mine", "next")], [1, 1, 1])


class LostMessages(PlacesTest):
    def queue_up(self, pause):
        self.hold()
        messages, client, waiters = self.messages(self.client(protocol=3)), self.client(), []
        for number in range(6):
            waiters.append(self.waiter(client, f"{number}", "QUEUE", 60000, pause=pause, messages=messages))
            self.assertTrue(eventually(lambda: self.waiting() == [each.token for each in waiters]))
        # Each knows its ticket, and waits for the message.
        self.assertTrue(eventually(lambda: all(each.tickets for each in waiters)))
        return messages, waiters

    def test_repeats_are_enough(self):
        messages, waiters = self.queue_up(pause=0.2)
        self.proxy.loses_messages = True
        self.assertEqual(self.release("holder"), 1)
        self.assert_served_in_turn(waiters)
        self.assertEqual(self.proxy.counts, {"message": len(waiters)})
        self.assertEqual(messages.tickets, [])

    def test_messages_are_enough(self):
        messages, waiters = self.queue_up(pause=600)
        self.assertEqual(self.release("holder"), 1)
        self.assert_served_in_turn(waiters)
        tickets = [each.tickets[0] for each in waiters]
        self.assertEqual(tickets, sorted(tickets))
        self.assertTrue(eventually(lambda: len(messages.tickets) == len(tickets)))
        self.assertEqual(messages.tickets, tickets)
        # For the place, and for the lock.
        self.assertEqual([self.times_asked(each.token) for each in waiters], [2] * len(waiters))


class Turn:
    """One token: what is known of when it waited and when it was granted the lock."""

    def __init__(self, token):
        self.token, self.sent, self.known_to_wait, self.ticket, self.fence = token, time.monotonic(), None, None, None


class RandomFaultsInOrder(PlacesTest):
    def test_random_faults_let_nobody_overtake_and_leave_nothing(self):
        seed = os.environ.get("REDIS_LOCK_SEED") or str(random.SystemRandom().randrange(2**32))
        print(f"REDIS_LOCK_SEED={seed}", flush=True)
        self.proxy.faults = RandomFaults(f"{seed}-faults", close=0.08, cut=0.06, delay=0.06, trickle=0.02, late=0.06)
        self.end, self.turns, self.inside, self.wrong = time.monotonic() + SECONDS, [], [], []
        client, cuts = self.client(), random.Random(f"{seed}-cuts")
        threads = [threading.Thread(target=self.work, args=(client, number, random.Random(f"{seed}-{number}")), daemon=True)
                   for number in range(THREADS)]
        for each in threads:
            each.start()
        while any(each.is_alive() for each in threads) and time.monotonic() < self.end + 30:
            self.proxy.cut(cuts.choice)
            time.sleep(0.1)
        self.assertFalse(any(each.is_alive() for each in threads))
        print(f"{len(self.turns)} turns, {sum(turn.ticket is not None for turn in self.turns)} after a wait, "
              f"faults {self.proxy.counts}", flush=True)
        self.assertEqual(self.wrong, [])
        turns = sorted(self.turns, key=lambda turn: turn.fence)
        tickets = [turn.ticket for turn in turns if turn.ticket is not None]
        self.assertEqual(tickets, sorted(set(tickets)))
        # Who was told of its place before another one asked has the lower fence.
        latest = None
        for turn in turns:
            if latest and turn.known_to_wait and turn.known_to_wait < latest.sent:
                self.fail(f"{vars(latest)} has overtaken {vars(turn)}")
            if latest is None or turn.sent > latest.sent:
                latest = turn
        self.assertGreater(len(tickets), 2 * SECONDS)
        self.assertGreater(min(self.proxy.counts.get(each, 0) for each in ("close", "cut", "late", "cut off")), 0)
        self.assert_nothing_left()

    def work(self, client, number, chosen):
        try:
            count = 0
            while time.monotonic() < self.end:
                self.turn(client, f"{number}-{count}", chosen)
                count += 1
        except Exception as error:
            self.wrong.append(repr(error))

    def turn(self, client, token, chosen):
        turn, options = Turn(token), chosen.choice(((), ("BLOCK", 30), ("BLOCK", 400), ("BLOCK", 3000)))
        while turn.fence is None:
            try:
                reply = self.ask(client, token, *options, "QUEUE", 60000)
            except LOST:
                continue
            if isinstance(reply, list):
                turn.fence = reply[1]
            elif turn.ticket is None:
                turn.ticket, turn.known_to_wait = reply, time.monotonic()
            elif turn.ticket != reply:
                self.wrong.append(f"{token} had ticket {turn.ticket} and is told {reply}")
            if not options:
                time.sleep(chosen.random() * 0.05)
        self.inside.append(token)
        time.sleep(chosen.random() * 0.01)
        if self.inside != [token]:
            self.wrong.append(f"{self.inside} hold it together")
        self.inside.remove(token)
        while True:
            try:
                client.execute_command("LOCK.RELEASE", self.key, token)
                break
            except LOST:
                pass
        self.turns.append(turn)


if __name__ == "__main__":
    unittest.main()
