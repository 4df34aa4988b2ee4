"""One thread for the process, that renews leases in time and tells when one is over.

It sends nothing itself: each renewal has a thread of its own for as long as it takes, so that a server that does not
answer holds up neither other renewals nor the signal that a lock is lost.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, Optional

from ._lease import Lease
from ._steps import PAUSE, now


class Keeper:
    def __init__(self) -> None:
        # Users are interrupted anywhere in here. A Condition would stay locked then, and this cannot.
        self._news: queue.SimpleQueue[tuple[float, int, weakref.ref[Lease]]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def watch(self, lease: Lease, at: float) -> None:
        """Tends it from `at` on, as long as somebody else has it."""
        self._news.put((at, lease.version, weakref.ref(lease)))
        if self._thread is None or not self._thread.is_alive():
            with self._starting:
                if self._thread is None or not self._thread.is_alive():
                    self._thread = threading.Thread(target=self._run, name="redis-lock keeper", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        due: list[tuple[float, int, int, weakref.ref[Lease]]] = []
        count = itertools.count()
        while True:
            with contextlib.suppress(queue.Empty):
                at, version, ref = self._news.get(timeout=max(0.0, due[0][0] - now()) if due else None)
                heapq.heappush(due, (at, next(count), version, ref))
            if due and due[0][0] <= now():
                _, _, version, ref = heapq.heappop(due)
                lease = ref()
                if lease is not None and lease.version == version:
                    self._tend(lease)
                del lease

    def _tend(self, lease: Lease) -> None:
        try:
            again = lease.tend()
        except RuntimeError:
            # No thread can be started. Perhaps one can later.
            again = now() + PAUSE
        if again is not None:
            self.watch(lease, again)


keeper = Keeper()
if hasattr(os, "register_at_fork"):
    # No thread goes along, and the locks are those of the parent.
    os.register_at_fork(after_in_child=keeper.__init__)  # type: ignore[misc]


def in_background(what: Callable[..., object], *args: Any, lasting: bool = False) -> threading.Thread:
    """With `lasting` the program does not end before it has."""
    thread = threading.Thread(target=what, args=args, name="redis-lock", daemon=not lasting)
    thread.start()
    return thread
