"""Who may wait on a connection, of which only so many may be blocked at a time."""

from __future__ import annotations

import contextlib
import queue


class Leave:
    """So many may have leave to block a connection. Where more ask, who has the lowest ticket comes first: its turn at the
    server does.

    Nothing here stays locked when its user is interrupted, as a Semaphore or a Condition would: each step is one operation
    on a list or a SimpleQueue, which no interrupt parts.
    """

    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Who asks: the ticket, something that no other has, and where leave is put.
        self._asking: list[tuple[int, int, queue.SimpleQueue[None]]] = []
        for _ in range(count):
            self._free.put(None)

    def take_now(self) -> bool:
        """Whether the caller has leave now. Nobody overtakes those who ask for it."""
        return not self._asking and self._take_free()

    def take(self, ticket: int, timeout: float) -> bool:
        """Whether the caller, who has this ticket, has got leave within so many seconds."""
        mine: queue.SimpleQueue[None] = queue.SimpleQueue()
        entry = (ticket, id(mine), mine)
        self._asking.append(entry)
        taken = 0
        try:
            self._hand_over()
            mine.get(True, max(timeout, 0))
            taken = 1
        except queue.Empty:
            pass
        except BaseException:
            # Interrupted. What was handed over goes to the next.
            if self._stop_asking(entry, 0):
                self.give_back()
            raise
        return self._stop_asking(entry, taken)

    def give_back(self) -> None:
        self._free.put(None)
        self._hand_over()

    def _stop_asking(self, entry: tuple[int, int, queue.SimpleQueue[None]], taken: int) -> bool:
        """It may have been handed over in the last moment. Whether the caller has it."""
        with contextlib.suppress(ValueError):
            self._asking.remove(entry)
        with contextlib.suppress(queue.Empty):
            entry[2].get_nowait()
            taken += 1
        for _ in range(taken - 1):
            self.give_back()
        return taken > 0

    def _hand_over(self) -> None:
        """Gives what is free to those who ask."""
        while self._asking and self._take_free():
            try:
                first = min(self._asking)
                self._asking.remove(first)
            except ValueError:
                # Nobody asks any more, or somebody else has served the first.
                self._free.put(None)
            else:
                first[2].put(None)

    def _take_free(self) -> bool:
        try:
            self._free.get_nowait()
        except queue.Empty:
            return False
        return True
