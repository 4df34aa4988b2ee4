"""More threads contend for a lock than may be blocked: whose turn comes must not have to ask first, or the lock is idle."""

import threading
import time
import unittest

from support import ServerTest

import redis_lock_client

CONTENDERS = 64
TURNS = 5


class Contention(ServerTest):
    def test_the_lock_is_not_idle_where_many_contend(self):
        client = redis_lock_client.LockClient(self.direct)
        self.addCleanup(client.close)
        turns = [0] * CONTENDERS

        def contend(number):
            for _ in range(TURNS):
                with client.lock("contended"):
                    turns[number] += 1
                    time.sleep(0.001)

        threads = [threading.Thread(target=contend, args=(number,)) for number in range(CONTENDERS)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(turns, [TURNS] * CONTENDERS)
        # It takes a second. Where it was idle, each turn took a second or two, now and then.
        self.assertLess(time.monotonic() - began, 20)
        self.assert_nothing_left("contended")


if __name__ == "__main__":
    unittest.main()
