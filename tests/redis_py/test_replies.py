"""One lost reply at a time, with redis.Redis(host, port) as it comes. redis-py 8.1 then does this:

  socket_timeout    5 s, for connecting too
  retry             10 times, so a call is sent 11 times at most; on ConnectionError and on TimeoutError
  backoff           random() * 10 ms * 2**n after failure n, at most 1 s
  pool              100 connections; none left is an error at once
  protocol          RESP3
  keepalive         on: probes after 30 s of silence, 3 of them, 5 s apart

It closes its connection before it repeats. So the server sees the old one end, the wait ends with it, and the repeat goes to
the end of the queue, every 5 s; where the server did not see that end, the repeat takes over the place. With QUEUE the place
stays in both cases. BLOCK begins anew with each try: one of more than 5 s ends after 11 tries, by TimeoutError.
"""

import signal
import time
import unittest

import redis
from proxy import EachOnce
from server import Call, LockTest, eventually


class GaveUp(Exception):
    pass


def give_up_after(seconds, call):
    """Runs `call` in this thread until a signal ends it, as an alarm, Ctrl-C or a worker's time limit does."""

    def raise_it(*_):
        raise GaveUp

    before = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class LostReplies(LockTest):
    def test_a_repeated_acquire_is_told_the_same_fence(self):
        client = self.client()
        for fault in ("close", "cut", "trickle", "swallow"):
            with self.subTest(fault):
                before = len(self.proxy.replied)
                self.proxy.faults = EachOnce(fault)
                token = f"token-{fault}"
                told = client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", token)
                replies = {reply for _, reply in self.proxy.replied[before:]}
                self.assertEqual(len(self.proxy.replied) - before, 1 if fault == "trickle" else 2)
                self.assertEqual(len(replies), 1)
                self.assertEqual([each[b"fence"] for each in self.holders()], [told[1]])
                self.assertIsNone(self.direct.execute_command("LOCK.ACQUIRE", self.key, "TOKEN", "other"))
                self.assertEqual(self.release(token), 1)
                self.assert_nothing_left()

    def test_without_a_token_a_lost_grant_is_held_by_nobody_for_its_lease_and_no_longer(self):
        self.proxy.faults = EachOnce("close")
        sent = time.monotonic()
        self.assertIsNone(self.client().execute_command("LOCK.ACQUIRE", self.key, "PX", 700))
        self.assertEqual(len(self.holders()), 1)
        self.assertTrue(eventually(lambda: self.info() is None, 2))
        self.assertLess(time.monotonic() - sent, 0.7 + 1)

    def test_a_repeated_release_ends_one_hold_only(self):
        for fault in ("close", "cut", "swallow"):
            with self.subTest(fault):
                client, other = self.client(), self.client(self.server.port)
                client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine")
                wait = Call(other, "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "next", "OWNER", "next", "BLOCK", 20000)
                self.assertTrue(eventually(lambda: self.queue() == [b"next"]))
                before = len(self.proxy.replies_to(b"LOCK.RELEASE"))
                self.proxy.faults = EachOnce(fault)
                # The first one did it; the caller is told of the second.
                self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine"), 0)
                self.assertEqual(self.proxy.replies_to(b"LOCK.RELEASE")[before:], [b":1\r\n", b":0\r\n"])
                fence = wait.result()[1]
                self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
                self.assertEqual(self.release("next"), 1)
                self.assert_nothing_left()

    def test_extend_and_check_are_told_the_truth_when_repeated(self):
        for fault in ("close", "cut", "swallow"):
            with self.subTest(fault):
                client, before = self.client(), len(self.proxy.sent)
                self.proxy.faults = None
                _, fence = client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine")
                self.proxy.faults = EachOnce(fault)
                self.assertEqual(client.execute_command("LOCK.EXTEND", self.key, "mine", "PX", 9000), 1)
                seen, remaining, waiting = client.execute_command("LOCK.CHECK", self.key, "mine")
                self.assertEqual((seen, waiting), (fence, 0))
                # By the repeat of CHECK, which comes after 5 s if the first reply was swallowed.
                self.assertTrue(2500 < remaining <= 9000, remaining)
                self.assertEqual(self.release("mine"), 1)
                # What has ended is not revived, however often it is asked.
                self.assertEqual(client.execute_command("LOCK.EXTEND", self.key, "mine", "PX", 8000), 0)
                self.assertEqual(len(self.proxy.sent) - before, 1 + 2 + 2 + 2)
                self.assert_nothing_left()

    def test_a_ttl_of_somebody_else_goes_with_the_next_extend_or_retry(self):
        for name, command in (
            ("extend", ("LOCK.EXTEND", self.key, "mine", "PX", 30000)),
            ("retry", ("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine")),
        ):
            with self.subTest(name):
                client = self.client()
                self.proxy.faults = None
                _, fence = client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine")
                self.assertTrue(self.direct.pexpire(self.key, 700))
                self.assertLessEqual(client.execute_command("LOCK.CHECK", self.key, "mine")[1], 700)
                self.proxy.faults = EachOnce("close")
                self.assertTrue(client.execute_command(*command))
                self.assertEqual(self.direct.pttl(self.key), -1)
                time.sleep(0.8)
                self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
                self.assertEqual(self.release("mine"), 1)
                self.assert_nothing_left()

    def test_a_ttl_of_somebody_else_does_not_outlive_the_hold_it_was_set_on(self):
        self.hold()
        self.assertTrue(self.direct.pexpire(self.key, 700))
        self.proxy.faults = EachOnce("close")
        wait = Call(self.client(), "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "OWNER", "mine", "BLOCK", 20000)
        self.assertTrue(eventually(lambda: self.queue() == [b"mine"]))
        self.assertEqual(self.release("holder"), 1)
        _, fence = wait.result()
        self.assertEqual(self.direct.pttl(self.key), -1)
        time.sleep(0.8)
        self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()

    def test_a_session_ends_with_its_connection(self):
        client = self.client()
        _, fence = client.execute_command("LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "SESSION")
        self.assertIsNotNone(self.holders()[0][b"session"])
        self.proxy.cut()
        self.assertTrue(eventually(lambda: self.info() is None, 2))
        # The library connects anew and says nothing of it; the lock does.
        self.assertIsNone(client.execute_command("LOCK.CHECK", self.key, "mine"))

    def test_a_session_whose_reply_is_lost_with_the_connection_is_another_hold(self):
        self.proxy.faults = EachOnce("close")
        _, fence = self.client().execute_command(
            "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "SESSION", "BLOCK", 3000)
        self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()

    def test_a_session_with_a_delay_comes_back_to_the_same_hold(self):
        self.proxy.faults = EachOnce("close")
        _, fence = self.client().execute_command(
            "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "SESSION", "DELAY", 5000)
        replies = self.proxy.replies_to(b"LOCK.ACQUIRE")
        self.assertEqual((len(replies), len(set(replies))), (2, 1))
        self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
        self.proxy.cut()
        self.assertTrue(eventually(lambda: self.holders()[0][b"remaining"] <= 5000))
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()


class Waits(LockTest):
    def test_a_repeated_wait_keeps_its_place_by_queue(self):
        self.hold()
        first = Call(self.client(), "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "first", "OWNER", "first",
                     "BLOCK", 20000, "QUEUE", 8000)
        self.assertTrue(eventually(lambda: self.queue() == [b"first"]))
        second = Call(self.client(self.server.port, socket_timeout=None), "LOCK.ACQUIRE", self.key, "PX", 30000,
                      "TOKEN", "second", "OWNER", "second", "BLOCK", 20000)
        self.assertTrue(eventually(lambda: len(self.queue()) == 2))
        self.assertTrue(eventually(lambda: self.proxy.times_sent(b"LOCK.ACQUIRE") == 2, 8))
        self.assertEqual(self.queue(), [b"first", b"second"])
        self.assertEqual(self.release("holder"), 1)
        first.result()
        self.assertEqual(self.queue(), [b"second"])
        self.assertEqual(self.release("first"), 1)
        second.result()
        self.assertEqual(self.release("second"), 1)
        self.assert_nothing_left()

    def test_a_repeated_wait_keeps_its_place_while_the_server_has_not_seen_the_old_connection_end(self):
        self.hold()
        self.proxy.half_open = True
        first = Call(self.client(), "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "first", "OWNER", "first",
                     "BLOCK", 20000)
        self.assertTrue(eventually(lambda: self.queue() == [b"first"]))
        second = Call(self.client(self.server.port, socket_timeout=None), "LOCK.ACQUIRE", self.key, "PX", 30000,
                      "TOKEN", "second", "OWNER", "second", "BLOCK", 20000)
        self.assertTrue(eventually(lambda: len(self.queue()) == 2))
        # The older request is answered null.
        self.assertEqual(eventually(lambda: self.proxy.replies_to(b"LOCK.ACQUIRE"), 8), [b"_\r\n"])
        self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE"), 2)
        self.assertEqual(self.queue(), [b"first", b"second"])
        self.assertEqual(self.release("holder"), 1)
        first.result()
        self.assertEqual(self.queue(), [b"second"])
        self.assertEqual(self.release("first"), 1)
        second.result()
        self.assertEqual(self.release("second"), 1)
        self.assert_nothing_left()

    def test_a_repeated_wait_without_queue_waits_on_once_only(self):
        self.hold()
        client = self.client()
        wait = Call(client, "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "OWNER", "mine", "BLOCK", 20000)
        self.assertTrue(eventually(lambda: self.proxy.times_sent(b"LOCK.ACQUIRE") == 2, 8))
        self.assertTrue(eventually(lambda: self.queue() == [b"mine"]))
        self.assertEqual(self.release("holder"), 1)
        _, fence = wait.result()
        self.assertEqual([each[b"fence"] for each in self.holders()], [fence])
        self.assertEqual(self.queue(), [])
        self.assertEqual(self.release("mine"), 1)
        self.assert_nothing_left()

    def test_who_gives_up_by_release_from_another_pool_waits_no_more(self):
        self.give_up_elsewhere()

    def test_who_gives_up_by_release_from_another_pool_gives_up_its_place(self):
        self.give_up_elsewhere("QUEUE", 60000)

    def give_up_elsewhere(self, *place):
        self.hold()
        client = self.client()
        with self.assertRaises(GaveUp):
            try:
                give_up_after(6, lambda: client.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "BLOCK", 20000, *place))
            finally:
                self.assertEqual(self.release("mine"), 0)
        self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE"), 2)
        info = self.info()
        self.assertEqual((info[b"held"], info[b"waiting"]), (1, 0))
        self.assertEqual(self.release("holder"), 1)
        self.assert_nothing_left()

    def test_who_gives_up_on_connections_that_stay_open_is_never_granted(self):
        self.hold()
        self.proxy.half_open = True
        client = self.client()
        with self.assertRaises(GaveUp):
            try:
                give_up_after(6, lambda: client.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "BLOCK", 0))
            finally:
                self.assertEqual(self.release("mine"), 0)
        # Both connections of the two tries are there still, and the server waits on neither.
        self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE"), 2)
        self.assertEqual(len(self.proxy.connections), 2)
        self.assertTrue(eventually(lambda: self.direct.info("clients")["blocked_clients"] == 0))
        self.assertEqual(self.info()[b"waiting"], 0)
        self.assertEqual(self.release("holder"), 1)
        time.sleep(0.5)
        self.assert_nothing_left()

    def test_a_grant_that_was_never_heard_of_is_ended_by_release_from_another_pool(self):
        self.proxy.half_open = True
        self.proxy.faults = EachOnce("swallow")
        client = self.client()
        with self.assertRaises(GaveUp):
            try:
                give_up_after(0.5, lambda: client.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", 30000, "TOKEN", "mine", "BLOCK", 0))
            finally:
                self.assertEqual(len(self.holders()), 1)
                self.assertEqual(self.release("mine"), 1)
        time.sleep(0.5)
        self.assert_nothing_left()

    def test_an_acquire_that_arrives_after_its_release_holds_for_its_lease_and_no_longer(self):
        class Late:
            def of_request(self, words):
                return "late"

            def of_reply(self, words):
                return None

        self.proxy.half_open, self.proxy.faults, self.proxy.seconds = True, Late(), 1
        client = self.client()
        sent = time.monotonic()
        with self.assertRaises(GaveUp):
            try:
                give_up_after(0.3, lambda: client.execute_command(
                    "LOCK.ACQUIRE", self.key, "PX", 700, "TOKEN", "mine"))
            finally:
                self.assertEqual(self.release("mine"), 0)
        self.assertTrue(eventually(lambda: len(self.holders()) == 1, 3))
        self.assertTrue(eventually(lambda: self.info() is None, 3))
        self.assertLess(time.monotonic() - sent, 1 + 0.7 + 1)

    def test_noperm_reaches_a_waiter_and_is_not_repeated(self):
        for number, rule in enumerate(("-lock.acquire", "resetkeys")):
            with self.subTest(rule):
                self.direct.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "+@all")
                self.hold()
                wait = Call(self.client(username="worker", password="secret"), "LOCK.ACQUIRE", self.key, "PX", 30000,
                            "TOKEN", "mine", "OWNER", "mine", "BLOCK", 20000)
                self.assertTrue(eventually(lambda: self.queue() == [b"mine"]))
                self.direct.execute_command("ACL", "SETUSER", "worker", rule)
                self.assertEqual(self.release("holder"), 1)
                with self.assertRaises(redis.exceptions.NoPermissionError):
                    wait.result()
                self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE"), number + 1)
                self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
