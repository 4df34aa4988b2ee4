"""Several independent servers, with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Optional

import redis.asyncio as redis

from .. import _redlock
from .._steps import AskAll, Grant, Options, Pause, Step, Words
from ._server import Performer, Server


class Majority(Performer):
    def __init__(self, clients: Sequence[redis.Redis], timeout: float) -> None:
        self._servers = [Server(each, socket_timeout=timeout, socket_connect_timeout=timeout) for each in clients]

    def for_hold(self, options: Options) -> Majority:
        _redlock.check(options)
        return self

    async def acquire(self, options: Options) -> Optional[Grant]:
        return await self.perform(_redlock.acquiring(options, len(self._servers)))

    async def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        return await self.perform(_redlock.extending(options, lease, until, len(self._servers)))

    async def release(self, options: Options, keep_until: float = 0.0) -> Optional[bool]:
        return await self.perform(_redlock.releasing(options, len(self._servers), keep_until))

    async def guard(self, words: Words) -> Any:
        raise _redlock.no_guard()

    def hung_up(self) -> bool:
        return False

    async def end(self) -> None:
        """There is nothing to close."""

    async def close(self) -> None:
        for each in self._servers:
            await each.close()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        assert isinstance(step, AskAll)
        asked = self._servers if step.only is None else [self._servers[each] for each in step.only]
        return await asyncio.gather(*(each.ask(step.words) for each in asked), return_exceptions=True)
