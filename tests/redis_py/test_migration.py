"""redis-py's own Lock on a key that clients of the module lock too: what docs/migration.md says of it."""

import unittest

import redis
from server import LockTest


class Migration(LockTest):
    def test_neither_kind_of_client_takes_what_the_other_holds(self):
        old = self.direct.lock(self.key, timeout=60)
        self.assertTrue(old.acquire(blocking=False))
        self.assert_wrong_type("LOCK.ACQUIRE", self.key)
        old.release()
        self.hold("new")
        self.assertFalse(old.acquire(blocking=False))
        self.assertEqual(self.release("new"), 1)
        self.assertTrue(old.acquire(blocking=False))

    def test_redis_py_cannot_look_at_a_lock_of_the_module(self):
        old = self.direct.lock(self.key, timeout=60)
        self.hold("new")
        for look in (old.locked, old.owned):
            with self.assertRaisesRegex(redis.exceptions.ResponseError, "WRONGTYPE"):
                look()

    def test_an_old_client_that_has_lost_its_lock_takes_nothing_from_a_new_one(self):
        old = self.direct.lock(self.key, timeout=60)
        self.assertTrue(old.acquire(blocking=False))
        self.direct.delete(self.key)
        _, fence = self.hold("new")
        for call in (old.release, lambda: old.extend(60, replace_ttl=True), old.reacquire):
            # The token is forgotten by a release that fails.
            old.local.token = b"old"
            with self.assertRaisesRegex(redis.exceptions.ResponseError, "WRONGTYPE"):
                call()
        self.assertEqual([each[b"fence"] for each in self.holders()], [fence])

    def assert_wrong_type(self, *command):
        with self.assertRaisesRegex(redis.exceptions.ResponseError, "WRONGTYPE"):
            self.direct.execute_command(*command)


if __name__ == "__main__":
    unittest.main()
