"""LEVEL while every reply is lost once, in each of the ways a reply can be lost: never one release too few or too many."""

import time
import unittest

from proxy import EachOnce
from server import Call, LockTest, eventually


class Levels(LockTest):
    def test_levels_are_given_back_one_by_one_if_the_connection_is_closed(self):
        self.go_in_and_out("close")

    def test_levels_are_given_back_one_by_one_if_replies_are_cut(self):
        self.go_in_and_out("cut")

    def test_levels_are_given_back_one_by_one_if_the_library_times_out(self):
        self.go_in_and_out("swallow")

    def go_in_and_out(self, fault):
        client, fences = self.client(), set()
        self.proxy.faults = EachOnce(fault)
        for level, lease in ((1, 60000), (2, 1000), (3, 500)):
            _, fence = client.execute_command("LOCK.ACQUIRE", self.key, "PX", lease, "TOKEN", "mine", "LEVEL", level)
            fences.add(fence)
            self.assert_held(fence, level)
        self.assertEqual(len(fences), 1)
        # Past the leases of the inner levels.
        time.sleep(1.1)
        for level in (3, 2, 1):
            # The first one did it; the caller is told of the second.
            self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine", "LEVEL", level), 0)
            if level > 1:
                self.assert_held(fence, level - 1)
        self.assert_nothing_left()
        self.assertEqual(self.proxy.times_sent(b"LOCK.ACQUIRE"), 6)
        self.assertEqual(self.proxy.replies_to(b"LOCK.RELEASE"), [b":1\r\n", b":0\r\n"] * 3)

    def assert_held(self, fence, level):
        (hold,) = self.holders()
        self.assertEqual((hold[b"level"], hold[b"fence"]), (level, fence))
        # No inner lease has cut the outer one short.
        self.assertGreater(hold[b"remaining"], 20000)
        self.assertIsNone(self.direct.execute_command("LOCK.ACQUIRE", self.key, "TOKEN", "other"))

    def test_work_that_gives_all_back_at_once_gives_it_back_once(self):
        client = self.client()
        for level in (1, 2, 3):
            client.execute_command("LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "mine", "LEVEL", level)
        wait = Call(self.client(self.server.port), "LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "next", "OWNER", "next",
                    "LEVEL", 1, "BLOCK", 20000)
        self.assertTrue(eventually(lambda: self.queue() == [b"next"]))
        self.proxy.faults = EachOnce("close")
        self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine"), 0)
        _, fence = wait.result()
        # What the inner work gives back then is not the lock of another.
        for level in (3, 2, 1):
            self.assertEqual(client.execute_command("LOCK.RELEASE", self.key, "mine", "LEVEL", level), 0)
        self.assertEqual([(each[b"fence"], each[b"level"]) for each in self.holders()], [(fence, 1)])
        self.assertEqual(self.release("next"), 1)
        self.assert_nothing_left()

    def test_an_inner_level_is_null_once_the_outer_hold_is_gone(self):
        client = self.client()
        self.assertIsNotNone(client.execute_command("LOCK.ACQUIRE", self.key, "PX", 100, "TOKEN", "mine", "LEVEL", 1))
        self.assertTrue(eventually(lambda: self.info() is None))
        self.proxy.faults = EachOnce("close")
        sent = time.monotonic()
        self.assertIsNone(client.execute_command(
            "LOCK.ACQUIRE", self.key, "PX", 60000, "TOKEN", "mine", "LEVEL", 2, "BLOCK", 4000))
        self.assertLess(time.monotonic() - sent, 2)
        self.assertEqual(self.proxy.replies_to(b"LOCK.ACQUIRE")[1:], [b"_\r\n"] * 2)
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
