"""Several independent servers, with threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Optional, Union

import redis

from . import _redlock
from ._keeper import in_background
from ._server import Performer, Server
from ._steps import AskAll, Grant, Options, Pause, Step, Words


class Majority(Performer):
    def __init__(self, clients: Sequence[redis.Redis], timeout: float) -> None:
        self._servers = [Server(each, 0, socket_timeout=timeout, socket_connect_timeout=timeout) for each in clients]

    def for_hold(self, options: Options) -> Majority:
        _redlock.check(options)
        return self

    def acquire(self, options: Options) -> Optional[Grant]:
        return self.perform(_redlock.acquiring(options, len(self._servers)))

    def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        return self.perform(_redlock.extending(options, lease, until, len(self._servers)))

    def release(self, options: Options, keep_until: float = 0.0) -> Optional[bool]:
        return self.perform(_redlock.releasing(options, len(self._servers), keep_until))

    def guard(self, words: Words) -> Any:
        raise _redlock.no_guard()

    def hung_up(self) -> bool:
        return False

    def end(self) -> None:
        """There is nothing to close."""

    def close(self) -> None:
        for each in self._servers:
            each.close()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        assert isinstance(step, AskAll)
        asked = self._servers if step.only is None else [self._servers[each] for each in step.only]
        replies: list[Any] = [None] * len(asked)

        def ask(number: int, server: Server) -> None:
            try:
                replies[number] = server.ask(step.words)
            except Exception as error:
                replies[number] = error

        # Each has a thread, and a short timeout: those that do not answer hold up nothing for longer.
        for thread in [in_background(ask, number, each) for number, each in enumerate(asked)]:
            thread.join()
        return replies
