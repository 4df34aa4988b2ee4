"""The checker finds what it is there to find. No server."""

import unittest

from history import SHARED, Hold, judge


def hold(token, fence, sent, told, lease, release_sent, most=1, **also):
    return Hold(1, "key", most, token, fence, sent, told, lease, release_sent, **also)


def found(*holds, **also):
    return [line.split(" of key")[0].split(":")[0] for line in judge(list(holds), **also)[0]]


class Checker(unittest.TestCase):
    def test_one_after_the_other_is_right(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.5), hold("b", 2, 0.2, 0.6, 1, 0.9)), [])

    def test_two_at_once_are_found(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.5), hold("b", 2, 0.2, 0.4, 1, 0.9)), ["2 holders"])

    def test_a_long_hold_is_compared_with_all_that_began_within(self):
        holds = hold("a", 1, 0, 0.1, 9, 8), hold("b", 2, 1, 1.1, 1, 1.5), hold("c", 3, 2, 2.1, 1, 2.5)
        self.assertEqual(found(*holds), ["2 holders"] * 2)

    def test_a_reader_and_a_writer_at_once_are_found_and_two_readers_are_right(self):
        first = hold("a", 1, 0, 0.1, 1, 0.5, SHARED)
        self.assertEqual(found(first, hold("b", 2, 0.2, 0.4, 1, 0.9)), ["2 holders"])
        self.assertEqual(found(first, hold("b", 2, 0.2, 0.4, 1, 0.9, SHARED)), [])

    def test_more_than_one_of_them_tolerates_are_found(self):
        holds = hold("a", 1, 0, 0.1, 1, 0.5, 2), hold("b", 2, 0.2, 0.3, 1, 0.9, SHARED)
        self.assertEqual(found(*holds), [])
        self.assertEqual(found(*holds, hold("c", 3, 0.3, 0.4, 1, 0.9, SHARED)), ["3 holders"])

    def test_nothing_is_certain_of_a_session(self):
        session = hold("a", 1, 0, 0.1, 1, 0.5, session=True)
        self.assertEqual(found(session, hold("b", 2, 0.2, 0.4, 1, 0.9)), [])
        self.assertEqual(judge([session])[1]["sessions"], 1)

    def test_a_time_to_live_that_may_have_come_after_the_grant_may_end_it(self):
        holds = hold("a", 1, 0, 0.1, 1, 0.5), hold("b", 2, 0.2, 0.4, 1, 0.9)
        self.assertEqual(found(*holds, expiries=[("key", 0.15, 0.16, 0.1)]), [])
        self.assertEqual(found(*holds, expiries=[("key", -0.2, -0.1, 0.1)]), ["2 holders"])
        self.assertEqual(found(*holds, expiries=[("other", 0.15, 0.16, 0.1)]), ["2 holders"])

    def test_nothing_is_certain_after_the_lease_counted_from_the_sending(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.3, 0.5), hold("b", 2, 0.2, 0.31, 1, 0.9)), [])
        self.assertEqual(judge([hold("a", 1, 0, 0.4, 0.3, 0.5)])[1]["told too late"], 1)

    def test_an_extension_makes_it_certain_for_longer_or_shorter(self):
        other = hold("b", 2, 0.2, 0.4, 1, 0.9)
        first = hold("a", 1, 0, 0.1, 0.3, 0.8, extensions=[(0.2, 0.21, 0.3, True, False)])
        self.assertEqual(found(first, other), ["2 holders"])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, True, False)])
        self.assertEqual(found(first, other), [])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, None, False)])
        self.assertEqual(found(first, other), [])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, True, True)])
        self.assertEqual(found(first, other), ["2 holders"])

    def test_a_hold_that_is_refused_within_its_lease_is_found(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, False, False)])),
                         ["lost before its lease was over, refused at 0.21"])
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.2, 0.8, extensions=[(0.19, 0.21, 0.1, False, False)])), [])

    def test_fences_that_fall_or_repeat_are_found(self):
        self.assertEqual(found(hold("a", 2, 0, 0.1, 1, 0.2), hold("b", 1, 0.3, 0.4, 1, 0.5)), ["a fence fell"])
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.2), hold("b", 1, 0.3, 0.4, 1, 0.5)),
                         ["a fence fell", "a fence was given twice"])
        # Asked at the same time: either order is right.
        self.assertEqual(found(hold("a", 2, 0, 0.3, 1, 0.4), hold("b", 1, 0.1, 0.2, 1, 0.25)), [])

    def test_who_is_there_though_it_must_be_gone_is_found(self):
        gone = {"a": 0.21}
        self.assertEqual(found(samples=[(0.205, "key", ["a"]), (0.3, "key", ["b"])], gone=gone), [])
        self.assertEqual(found(samples=[(0.3, "key", ["b", "a"])], gone=gone),
                         ["a is on key at 0.3, and was to be gone by 0.21"])


if __name__ == "__main__":
    unittest.main()
