"""The programs of README.md, and of the README of the whole project, as they are there, but for the port."""

import os
import re
import subprocess
import sys
import unittest

from support import HERE, Server, ServerTest


CLIENT = os.path.dirname(HERE)
PROJECT = os.path.dirname(os.path.dirname(CLIENT))


def programs(folder=CLIENT):
    with open(os.path.join(folder, "README.md")) as file:
        return re.findall(r"^```python\n(.*?)^```", file.read(), re.M | re.S)


class Readme(ServerTest):
    def run_program(self, text, ports):
        text = re.sub(r"redis\.Redis\(host\) for host in \(.*?\)", f"redis.Redis(port=port) for port in {ports}", text)
        text = re.sub(r"Redis\(\)", f"Redis(port={ports[0]})", text)
        return subprocess.run(
            [sys.executable, "-B", "-W", "error", "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, timeout=60)  # fmt: skip

    def test_the_programs_with_threads_and_with_asyncio_hold_the_lock(self):
        for text in programs()[:2]:
            run = self.run_program(text, [self.server.port])
            self.assertEqual(run.returncode, 0, run.stdout)
            self.assertRegex(run.stdout, r"^working with fence \d{16}\b.*\n$")
        self.assert_nothing_left("order:44")

    def test_the_program_says_when_somebody_else_is_at_it(self):
        self.direct.execute_command("LOCK.ACQUIRE", "order:44", "PX", 60000, "TOKEN", "other")
        run = self.run_program(programs()[0].replace("wait=20", "wait=0.2"), [self.server.port])
        self.assertEqual((run.returncode, run.stdout), (0, "somebody else is at it\n"))
        self.direct.execute_command("LOCK.RELEASE", "order:44", "other")

    def test_the_program_of_the_project_holds_the_lock_and_says_when_somebody_else_does(self):
        [text] = programs(PROJECT)
        run = self.run_program(text, [self.server.port])
        self.assertEqual(run.returncode, 0, run.stdout)
        self.assertRegex(run.stdout, r"^UPDATE orders SET total = 99, fence = (\d{16}) WHERE id = 42 AND fence <= \1\n$")
        self.assert_nothing_left("order:42")
        self.direct.execute_command("LOCK.ACQUIRE", "order:42", "PX", 60000, "TOKEN", "other")
        run = self.run_program(text.replace("wait=20", "wait=0.2"), [self.server.port])
        self.assertEqual((run.returncode, run.stdout), (0, "somebody else is at it, for longer than 20 seconds\n"))
        self.direct.execute_command("LOCK.RELEASE", "order:42", "other")

    def test_the_others_run_too(self):
        several, lock_class, redlock = programs()[2:]
        run = self.run_program(several, [self.server.port])
        self.assertRegex(run.stdout, r"^moved with fence \d{16}\n$")
        self.assertEqual(self.direct.get("{bank}:moved"), b"99")
        self.assert_nothing_left("{bank}:7")
        run = self.run_program("import redis\n" + lock_class + "assert lock.acquire()\nlock.release()\n", [self.server.port])
        self.assertEqual((run.returncode, run.stdout), (0, ""))
        servers = [Server() for _ in range(5)]
        for each in servers:
            self.addCleanup(each.stop)
        run = self.run_program("import redis\n" + redlock, [each.port for each in servers])
        self.assertEqual((run.returncode, run.stdout), (0, ""))
        self.assert_nothing_left("order:44")

    def test_the_first_program_has_ten_lines(self):
        self.assertLessEqual(len(programs()[0].splitlines()), 10)


if __name__ == "__main__":
    unittest.main()
