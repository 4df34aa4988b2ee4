"""One thread for the process, that renews leases in time and tells when one is over.

It sends nothing itself: each renewal has a thread of its own for as long as it takes, so that a server that does not
answer holds up neither other renewals nor the signal that a lock is lost.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Optional

from ._lease import Lease
from ._steps import PAUSE, now


class Keeper:
    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._due: list[tuple[float, int, int, weakref.ref[Lease]]] = []
        self._count = itertools.count()
        self._thread: Optional[threading.Thread] = None

    def watch(self, lease: Lease, at: float) -> None:
        """Tends it from `at` on, as long as somebody else has it."""
        with self._turn:
            heapq.heappush(self._due, (at, next(self._count), lease.version, weakref.ref(lease)))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="redis-lock keeper", daemon=True)
                self._thread.start()
            self._turn.notify()

    def _run(self) -> None:
        while True:
            with self._turn:
                while not self._due or self._due[0][0] > now():
                    self._turn.wait(max(0.0, self._due[0][0] - now()) if self._due else None)
                _, _, version, ref = heapq.heappop(self._due)
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
