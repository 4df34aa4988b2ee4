"""The tests of the client, against real servers. `make test-clients` runs it; REDIS_SERVER chooses the server.

  test_cancel_on_lost.py  a task whose block is cancelled when its lock is lost
  test_connections.py     those that are closed, stand still, lead to a replica, or are many
  test_contention.py      a lock that more threads want than may be blocked
  test_fork.py            what the child of a process that holds locks may do
  test_interrupts.py      300 interrupts of the main thread around the grant, of one lock and of several
  test_levels.py          what levels take from their hold, and how they end
  test_lock_class.py      the tests of redis-py for its own lock; as_lock_class.py is for it
  test_readme.py          the programs of README.md
  test_several.py         several locks at once, weights, delays and guards, as far as they are particular to Python
  test_steps.py           what is asked and when, without a server
  test_with.py            threads and tasks that share one `with`
  support.py              a server, and a proxy in front of it
  testee.py               takes part in the proofs of all clients, clients/conformance

Run with REDIS_LOCK_MODULE, the files go at the same time; they mostly wait. Names of files as arguments choose some.
"""

import os
import re
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))


def main():
    chosen = sys.argv[1:] or sorted(each for each in os.listdir(here) if re.fullmatch(r"test_\w+\.py", each))
    began = time.monotonic()
    runs = [
        (name, subprocess.Popen(
            [sys.executable, "-B", "-W", "ignore::ResourceWarning", os.path.join(here, name), "-v"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        for name in chosen
    ]  # fmt: skip
    try:
        totals = [report(*run) for run in runs]
    finally:
        for _, run in runs:
            run.terminate()
    passed, failed, skipped = map(sum, zip(*totals))
    broken = any(run.returncode for _, run in runs)
    print(f"test result: {'FAILED' if broken else 'ok'}. {passed} passed; {failed} failed; 0 ignored; {skipped} skipped; "
          f"finished in {time.monotonic() - began:.0f} s")  # fmt: skip
    return broken


def report(name, run):
    text, _ = run.communicate()
    print(f"{name}:\n{text}", flush=True)
    end = text.rsplit("\n\n", 1)[-1]
    ran = sum(map(int, re.findall(r"^Ran (\d+) test", text, re.M)))
    failed = sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", end)))
    skipped = sum(map(int, re.findall(r"skipped=(\d+)", end)))
    # Where the report of the servers wants it, as the other tests do.
    if os.environ.get("REDIS_LOCK_SKIPPED"):
        with open(os.environ["REDIS_LOCK_SKIPPED"], "a") as file:
            for test, reason in re.findall(r"^(test_\w+) .*\.\.\. skipped '(.*)'$", text, re.M):
                file.write(f"clients/python {test}: {reason}\n")
    return ran - failed - skipped, failed, skipped


sys.exit(main())
