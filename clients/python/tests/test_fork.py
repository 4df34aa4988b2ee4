"""A process that forks while it holds locks: its child holds nothing, ends nothing, and works on connections of its own."""

import os
import threading
import traceback
import unittest

import redis
from support import ServerTest, is_renewed

import redis_lock_client


def in_child(work):
    """Whether this work, in a child that is forked for it, ends well."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0


@unittest.skipUnless(hasattr(os, "fork"), "this system has no fork")
class Fork(ServerTest):
    def setUp(self):
        super().setUp()
        self.client = redis_lock_client.LockClient(redis.Redis(port=self.server.port))
        self.addCleanup(self.client.close)

    def connections(self):
        return {each["id"] for each in self.direct.client_list()}

    def test_a_child_holds_nothing_of_its_parent_and_ends_nothing(self):
        held = self.client.acquire(self.lock, lease=4.0)
        session = self.client.acquire("session", session=True)

        def child():
            for each in (held, session):
                assert not each.held and each.remaining == 0
                assert not each.extend() and not each.release()
                # Nor does it ask for the next level of it.
                assert self.client.acquire(each.name, wait=0) is None

        self.assertTrue(in_child(child))
        # It is the parent who renews.
        self.assertTrue(is_renewed(self.direct, self.lock))
        self.assertEqual((self.info()["held"], self.info("session")["held"]), (1, 1))
        self.assertFalse(held.lost.is_set() or session.lost.is_set())
        self.assertTrue(held.release() and session.release())

    def test_the_end_of_with_in_a_child_releases_nothing(self):
        def child():
            try:
                block.__exit__(None, None, None)
            except redis_lock_client.LockLostError:
                return
            raise AssertionError("it was told that it held the lock")

        block = self.client.lock(self.lock)
        with block:
            self.assertTrue(in_child(child))
            self.assertEqual(self.info()["held"], 1)

    def test_a_child_acquires_and_renews_by_itself_while_its_parent_goes_on(self):
        held = self.client.acquire(self.lock)
        before = self.connections()
        stop, extended = threading.Event(), []

        def extend():
            while not stop.is_set():
                extended.append(held.extend())

        def child():
            with redis.Redis(port=self.server.port, protocol=3) as direct:
                with self.client.lock("of the child", lease=4.0) as own:
                    assert direct.info("clients")["connected_clients"] > len(before) + 1, "it uses those of its parent"
                    assert is_renewed(direct, "of the child"), "it is not renewed"
                    assert own.held
                    assert direct.execute_command("LOCK.INFO", "of the child")[b"held"] == 1

        parent = threading.Thread(target=extend)
        parent.start()
        try:
            self.assertTrue(in_child(child))
        finally:
            stop.set()
            parent.join()
        self.assertTrue(extended and all(extended))
        self.assertTrue(held.release())
        self.assert_nothing_left("of the child")


if __name__ == "__main__":
    unittest.main()
