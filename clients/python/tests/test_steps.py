"""What is asked and when, without a server: see _steps.py and _redlock.py."""

import unittest
from unittest import mock

from redis.exceptions import ConnectionError, ResponseError

from redis_lock_client import LockLostError, _redlock, _steps
from redis_lock_client._steps import Ask, AskAll, Options, Pause, options_of

LOST = ConnectionError("lost")
WRONG = ResponseError("WRONGTYPE it is something else")


class Steps(unittest.TestCase):
    """The clock stands still but for pauses."""

    def setUp(self):
        self.now, self.asked = 1000.0, []
        for module in (_steps, _redlock):
            self.enterContext(mock.patch.object(module, "now", lambda: self.now))

    def perform(self, steps, *replies):
        """What it comes to when these are the replies, the last one for ever."""
        replies = list(replies)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.now += step.seconds
                    step = steps.send(None)
                    continue
                self.asked.append(step)
                reply = replies.pop(0) if len(replies) > 1 else replies[0]
                if isinstance(step, Ask) and isinstance(reply, Exception):
                    step = steps.throw(reply)
                else:
                    step = steps.send(reply[: len(step.only)] if isinstance(step, AskAll) and step.only else reply)
        except StopIteration as end:
            return end.value

    def test_a_handed_on_level_is_extended_to_what_was_asked(self):
        options = Options(("x",), level=2, token="t")
        ends = self.perform(_redlock.extending(options, 60.0, self.now + 60, 3), [[b"t", 1]] * 3)
        self.assertAlmostEqual(ends, self.now + 60 - _redlock.drift(60))
        self.assertIn(60000, self.asked[0].words)
        self.assertEqual(self.perform(_steps.extending(options, 60.0, self.now + 60), [b"t", 1]), self.now + 60)
        self.assertIn(60000, self.asked[1].words)

    def test_redlock_asks_again_where_a_majority_did_not_answer(self):
        silent, granted, released = [[b"t", 1]] * 2 + [LOST] * 3, [[b"t", 1]] * 5, [1] * 5
        for options in (Options(("x",), level=2, token="t", wait=10), Options(("x",), wait=0)):
            self.assertIsNotNone(self.perform(_redlock.acquiring(options, 5), silent, released, granted), options)
        began = self.now
        with self.assertRaises(ConnectionError):
            self.perform(_redlock.acquiring(Options(("x",), wait=0), 5), [LOST] * 5)
        self.assertGreaterEqual(self.now, began + 2)
        for refused in ([None] * 3 + [LOST] * 2, [None] * 5):
            with self.assertRaises(LockLostError):
                self.perform(_redlock.acquiring(Options(("x",), level=2, token="t"), 5), refused, released)

    def test_redlock_without_a_majority_is_not_available_at_once(self):
        self.assertIsNone(self.perform(_redlock.acquiring(Options(("x",), wait=0), 5), [None] * 3 + [LOST] * 2, [0] * 5))
        self.assertEqual(self.now, 1000.0)

    def test_redlock_does_not_know_of_a_release_whose_reply_was_lost(self):
        for replies, wanted in (
            (([1, LOST, 0], [0]), None), (([1, LOST, LOST], [0, 0]), None), (([1, LOST, 0], [1]), True),
            (([0, LOST, 0], [0]), False), (([1, ResponseError("LOADING it"), 0], [0]), False), (([LOST] * 3,), None),
        ):  # fmt: skip
            with self.subTest(replies):
                self.assertEqual(self.perform(_redlock.releasing(Options(("x",)), 3), *replies), wanted)

    def test_redlock_takes_another_type_for_a_no(self):
        replies = [1, 1, WRONG, 0, 0]
        self.assertIsNone(self.perform(_redlock.extending(Options(("x",)), 30.0, self.now + 5, 5), replies))

    def test_a_release_is_tried_for_as_long_as_the_lease(self):
        for lease, least in ((60.0, 60), (1.0, 15)):
            began = self.now
            self.assertIsNone(self.perform(_steps.releasing(Options(("x",), lease=lease)), LOST))
            self.assertTrue(least <= self.now - began < least + 1)

    def test_what_cannot_be_asked_for_is_an_error(self):
        nan = float("nan")
        for how in (
            {"limit": 0}, {"limit": -1}, {"limit": 65536}, {"lease": 0}, {"lease": nan}, {"lease": float("inf")},
            {"wait": nan}, {"wait": -1}, {"at_least": nan}, {"session": True, "delay": nan}, {"level": 0}, {"level": -1},
            {"replicas": -1}, {"level": 2}, {"level": 2, "token": "t", "session": True},
            {"level": 2, "token": "t", "session": True, "delay": 1.0},
        ):  # fmt: skip
            with self.subTest(how), self.assertRaises(ValueError):
                options_of(("x",), how, "me", None)


if __name__ == "__main__":
    unittest.main()
