"""The tests of redis-py for its own lock, run against Lock and AsyncLock: REDIS_PY_TESTS names the source distribution,
unpacked. All pass but those that read the string that a lock of redis-py is."""

import os
import re
import subprocess
import sys
import unittest

from support import HERE, ServerTest, eventually

from redis_lock_client.lock_class import Lock

VALUE, TTL = "reads the value of the key, which is no string", "reads the TTL of the key, which has none"
EXCEPTIONS = {
    "test_lock": VALUE,
    "test_lock_token": VALUE,
    "test_lock_token_thread_local_false": VALUE,
    "test_context_manager": VALUE,
    "test_timeout": TTL,
    "test_float_timeout": TTL,
    "test_extend_lock": TTL,
    "test_extend_lock_replace_ttl": TTL,
    "test_extend_lock_float": TTL,
    "test_reacquire_lock": TTL,
}
FILES = ("tests/test_lock.py", "tests/test_asyncio/test_lock.py")


class LockClass(ServerTest):
    def test_the_tests_of_redis_py_pass_but_for_the_exceptions(self):
        folder = os.environ.get("REDIS_PY_TESTS")
        if not folder:
            self.skipTest("REDIS_PY_TESTS does not name the source distribution of redis-py")
        run = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-p", "as_lock_class", "-p", "no:cacheprovider", "-rA", "-q",
             "-o", "asyncio_mode=auto", "--redis-url", f"redis://127.0.0.1:{self.server.port}/0", *FILES],
            cwd=folder, env={**os.environ, "PYTHONPATH": os.pathsep.join([HERE, *sys.path])},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        outcomes = re.findall(r"^(PASSED|FAILED|ERROR) (tests/\S*test_lock\.py)::\w+::(\w+)", run.stdout, re.M)
        by_outcome = {each: {name for outcome, _, name in outcomes if outcome == each} for each in ("PASSED", "FAILED")}
        self.assertEqual({file for _, file, _ in outcomes}, set(FILES), run.stdout[-4000:])
        self.assertEqual(by_outcome["FAILED"], set(EXCEPTIONS), run.stdout[-4000:])
        self.assertEqual([each for each in outcomes if each[0] == "ERROR"], [])
        self.assertFalse(by_outcome["PASSED"] & set(EXCEPTIONS))
        self.assertGreater(len(by_outcome["PASSED"]), 20)

    def test_what_the_exceptions_read_is_right_by_other_means(self):
        import redis

        client = redis.Redis(port=self.server.port)
        self.addCleanup(client.close)

        def remaining():
            return client.execute_command("LOCK.CHECK", self.lock, lock.local.token)[1]

        lock = client.lock(self.lock, timeout=95.5, lock_class=Lock)
        self.assertTrue(lock.acquire(blocking=False, token="test"))
        self.assertEqual(lock.local.token, b"test")
        self.assertTrue(80000 < remaining() <= 95500)
        self.assertTrue(lock.extend(100))
        self.assertTrue(180000 < remaining() <= 195500)
        self.assertTrue(lock.extend(100, replace_ttl=True))
        self.assertTrue(95500 < remaining() <= 100000)
        self.assertTrue(lock.reacquire())
        self.assertTrue(80000 < remaining() <= 95500)
        self.assertGreater(lock.fence, 0)
        lock.release()
        self.assertIsNone(lock.local.token)
        self.assert_nothing_left()

    def test_who_polls_keeps_its_place_and_gives_it_up(self):
        import threading

        import redis

        client = redis.Redis(port=self.server.port)
        self.addCleanup(client.close)
        first = client.lock(self.lock, lock_class=Lock)
        self.assertTrue(first.acquire())
        self.assertFalse(client.lock(self.lock, blocking_timeout=0.3, lock_class=Lock).acquire())
        self.assert_becomes(held=1, waiting=0)
        order = []

        def wait(name):
            with client.lock(self.lock, lock_class=Lock):
                order.append(name)

        some = []
        for name in range(3):
            some.append(threading.Thread(target=wait, args=(name,)))
            some[-1].start()
            self.assertTrue(eventually(lambda: self.info()["waiting"] == name + 1))
        first.release()
        for each in some:
            each.join(20)
        self.assertEqual(order, [0, 1, 2])
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
