"""Tasks that others cannot cancel, and those that have to be cancelled for good.

Before Python 3.12 a cancellation may get lost: asyncio.wait_for, by which redis-py sends and connects, forgets it if what it
waits for is done in the same turn of the loop. So no request of redis-py is ever cancelled here but those of a connection
that is being closed, and what is cancelled is cancelled until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar, Union

from .._steps import PATIENCE, PAUSE

T = TypeVar("T")

_going_on: set[asyncio.Future[Any]] = set()


def keep(work: Union[Coroutine[Any, Any, T], asyncio.Future[T]]) -> asyncio.Future[T]:
    """A task that the loop does not forget, and that does not complain if nobody asks how it ended."""

    def done(task: asyncio.Future[Any]) -> None:
        _going_on.discard(task)
        if not task.cancelled():
            task.exception()

    task = asyncio.ensure_future(work)
    _going_on.add(task)
    task.add_done_callback(done)
    return task


async def uncancelled(work: Union[Coroutine[Any, Any, T], asyncio.Future[T]]) -> T:
    """Does it to its end. Whoever is cancelled meanwhile waits for that, if it does not take too long."""
    task = keep(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=PATIENCE)
        raise


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Does it to its end. Whoever is cancelled meanwhile waits for that, however often."""
    task = keep(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        raise


async def stop(task: asyncio.Future[Any]) -> None:
    """Cancels it until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=PAUSE)
