"""redis-py as it comes, behind a proxy that loses replies: never two holders, and nothing held by nobody for longer than its
lease. `make test-redis-py` runs it; REDIS_SERVER chooses the server.

  test_replies.py         one lost reply at a time, and giving up: what redis-py does is said there
  test_levels.py          the same with LEVEL
  test_asyncio.py         the same with redis.asyncio, and 300 cancellations around a grant
  test_places.py          QUEUE: clients that time out, whose connections are killed, or that die; transactions, scripts
  test_places_lost.py     QUEUE while replies and messages are lost
  test_places_asyncio.py  QUEUE by fifty tasks on one connection
  test_workload.py        threads, random work, random faults; judged by history.py
  test_migration.py       redis-py's own Lock beside clients of the module, as docs/migration.md has it
  test_history.py         history.py finds what it is there to find
  proxy.py                the proxy; server.py: a server for each file, and what the tests share; places.py: for QUEUE

What a client must do, and what these tests do: send a TOKEN of its own; send RELEASE in `finally`, whatever came of ACQUIRE,
from another pool than the one that waits; take a 0 of RELEASE for an end as well, as the first one may have done it.

Run with REDIS_LOCK_MODULE, the files go at the same time; they mostly wait. Names of files as arguments choose some.
"""

import os
import re
import signal
import subprocess
import sys
import time

here = os.path.dirname(os.path.abspath(__file__))
chosen = sys.argv[1:] or sorted(each for each in os.listdir(here) if re.fullmatch(r"test_\w+\.py", each))
began, runs = time.monotonic(), []


def stop(*_):
    for _, run in runs:
        run.terminate()
    for _, run in runs:
        run.wait()
    sys.exit(1)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
for name in chosen:
    runs.append((name, subprocess.Popen(
        [sys.executable, "-B", os.path.join(here, os.path.basename(name)), "-v"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)))

passed = failed = skipped = 0
broken = False
for name, run in runs:
    text, _ = run.communicate()
    print(f"{name}:\n{text}", flush=True)
    ran = re.search(r"^Ran (\d+) test", text, re.M)
    bad = sum(int(each) for each in re.findall(r"(?:failures|errors)=(\d+)", text.rsplit("\n\n", 1)[-1]))
    left_out = sum(int(each) for each in re.findall(r"skipped=(\d+)", text.rsplit("\n\n", 1)[-1]))
    passed += (int(ran[1]) if ran else 0) - bad - left_out
    failed += bad
    skipped += left_out
    broken = broken or run.returncode != 0
    # Where the report of the servers wants it, as the other tests do.
    if os.environ.get("REDIS_LOCK_SKIPPED"):
        with open(os.environ["REDIS_LOCK_SKIPPED"], "a") as report:
            for test, reason in re.findall(r"^(test_\w+) .*\.\.\. skipped '(.*)'$", text, re.M):
                report.write(f"redis-py {test}: {reason}\n")

# As cargo says it, for scripts/on-each-server.sh.
print(f"test result: {'FAILED' if broken else 'ok'}. {passed} passed; {failed} failed; 0 ignored; {skipped} skipped; "
      f"finished in {time.monotonic() - began:.0f} s")
sys.exit(broken)
