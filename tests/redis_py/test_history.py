"""The checker finds what it is there to find. No server."""

import unittest

from history import Hold, judge


def hold(token, fence, sent, told, lease, release_sent, shared=False, **also):
    return Hold(1, "key", shared, token, fence, sent, told, lease, release_sent, release_sent + 0.01, **also)


def found(*holds, samples=()):
    return [line.split(" of key")[0].split(":")[0] for line in judge(list(holds), samples)[0]]


class Checker(unittest.TestCase):
    def test_one_after_the_other_is_right(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.5), hold("b", 2, 0.2, 0.6, 1, 0.9)), [])

    def test_two_at_once_are_found(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.5), hold("b", 2, 0.2, 0.4, 1, 0.9)), ["two holders"])

    def test_a_long_hold_is_compared_with_all_that_began_within(self):
        holds = hold("a", 1, 0, 0.1, 9, 8), hold("b", 2, 1, 1.1, 1, 1.5), hold("c", 3, 2, 2.1, 1, 2.5)
        self.assertEqual(found(*holds), ["two holders"] * 2)

    def test_a_reader_and_a_writer_at_once_are_found_and_two_readers_are_right(self):
        first = hold("a", 1, 0, 0.1, 1, 0.5, True)
        self.assertEqual(found(first, hold("b", 2, 0.2, 0.4, 1, 0.9)), ["two holders"])
        self.assertEqual(found(first, hold("b", 2, 0.2, 0.4, 1, 0.9, True)), [])

    def test_nothing_is_certain_after_the_lease_counted_from_the_sending(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.3, 0.5), hold("b", 2, 0.2, 0.31, 1, 0.9)), [])
        self.assertEqual(judge([hold("a", 1, 0, 0.4, 0.3, 0.5)])[1]["told too late"], 1)

    def test_an_extension_makes_it_certain_for_longer_or_shorter(self):
        other = hold("b", 2, 0.2, 0.4, 1, 0.9)
        first = hold("a", 1, 0, 0.1, 0.3, 0.8, extensions=[(0.2, 0.21, 0.3, True, False)])
        self.assertEqual(found(first, other), ["two holders"])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, True, False)])
        self.assertEqual(found(first, other), [])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, None, False)])
        self.assertEqual(found(first, other), [])
        first = hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, True, True)])
        self.assertEqual(found(first, other), ["two holders"])

    def test_a_hold_that_is_refused_within_its_lease_is_found(self):
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.9, 0.8, extensions=[(0.2, 0.21, 0.1, False, False)])),
                         ["lost before its lease was over, refused at 0.21"])
        self.assertEqual(found(hold("a", 1, 0, 0.1, 0.2, 0.8, extensions=[(0.19, 0.21, 0.1, False, False)])), [])

    def test_fences_that_fall_or_repeat_are_found(self):
        self.assertEqual(found(hold("a", 2, 0, 0.1, 1, 0.2), hold("b", 1, 0.3, 0.4, 1, 0.5)), ["the fence"])
        self.assertEqual(found(hold("a", 1, 0, 0.1, 1, 0.2), hold("b", 1, 0.3, 0.4, 1, 0.5)), ["the fence", "a fence"])
        # Asked at the same time: either order is right.
        self.assertEqual(found(hold("a", 2, 0, 0.3, 1, 0.4), hold("b", 1, 0.1, 0.2, 1, 0.25)), [])

    def test_who_is_there_after_the_release_is_found(self):
        first = hold("a", 1, 0, 0.1, 1, 0.2)
        self.assertEqual(found(first, samples=[(0.205, "key", ["a"]), (0.3, "key", ["b"])]), [])
        self.assertEqual(found(first, samples=[(0.3, "key", ["b", "a"])]), ["a is on key at 0.3, released at 0.21000000000000002"])


if __name__ == "__main__":
    unittest.main()
