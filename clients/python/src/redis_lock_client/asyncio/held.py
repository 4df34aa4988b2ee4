"""A lock that is held, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Optional, Protocol, TypeVar, Union

from redis.exceptions import RedisError, ResponseError, TimeoutError

from .._lease import Lease, Level
from .._steps import Grant, Options, Words, now
from ..errors import LockLostError, code_of
from ._tasks import keep, uncancelled

T = TypeVar("T")


class Remote(Protocol):
    """What it is held of: a server, or the majority of several."""

    async def acquire(self, options: Options) -> Optional[Grant]:
        """None when it is not available."""

    async def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        """When the lease ends, or None when the lock is lost. Raises when that cannot be said."""

    async def release(self, options: Options, keep_until: float) -> Optional[bool]:
        """Whether it was held until now, or None when that is not known."""

    async def guard(self, words: Words) -> Any:
        """The reply to LOCK.GUARD."""

    def hung_up(self) -> bool:
        """Of a session: whether its connection is gone."""

    async def end(self) -> None:
        """The hold has ended."""


class Hold(Lease):
    """The hold of one token."""

    def __init__(self, remote: Remote, options: Options, grant: Grant) -> None:
        self.remote = remote
        # Extensions go one by one, so that what is said last is what the server did last.
        self.extending = asyncio.Lock()
        # And so do requests for levels, and their releases.
        self.turn = asyncio.Lock()
        self._unsettled: Optional[asyncio.Future[Any]] = None
        self._loop = asyncio.get_running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None
        super().__init__(options, grant, asyncio.Event())

    def hung_up(self) -> bool:
        return self.options.session and self.remote.hung_up()

    def watch(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(max(0.0, at - now()), _tend, weakref.ref(self))

    def tell(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon(callback)

    def tell_lost(self) -> None:
        # Whoever looks at what remains may be the first to see it, even from another thread.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(super().tell_lost)

    def renew(self) -> None:
        keep(self._renew())

    async def _renew(self) -> None:
        try:
            with contextlib.suppress(RedisError):
                async with self.extending:
                    if self.remaining:
                        await self.extend(self.seconds)
        finally:
            self.renewed()

    async def extend(self, seconds: float) -> None:
        """With `extending`."""
        self.shorten(seconds)
        try:
            ends = await self.remote.extend(self.options, seconds, self.ends)
        except RedisError:
            if self.options.session:
                # Its connection is gone, and the lock with it.
                self.lose()
            raise
        if ends is None:
            self.lose_all()
        else:
            self.confirm(ends, seconds)

    def lose_all(self) -> None:
        """The server has said that the token does not hold the lock, or of several not all: then the rest is released."""
        self.lose()
        if self.options.several:
            keep(self.remote.release(self.to_release(self.options), 0.0))

    def settle(self, release: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Releases a level, whatever comes of those who wait for that."""
        before = self._unsettled

        async def run() -> T:
            if before is not None:
                await asyncio.wait({before})
            return await release

        task = self._unsettled = keep(run())
        return task

    async def settled(self, seconds: Optional[float]) -> None:
        """Waits until that is done: the next level has the same number, and would be released by it."""
        if self._unsettled is not None:
            await asyncio.wait({self._unsettled}, timeout=seconds)
            if not self._unsettled.done():
                raise TimeoutError("A level that was given up could not be released yet.")


def _tend(ref: weakref.ref[Hold]) -> None:
    hold = ref()
    if hold is not None:
        again = hold.tend()
        if again is not None:
            hold.watch(again)


class HeldLock(Level[Hold]):
    """A lock that is held, or several together, or one level of it. `async with` releases it at the end, and raises
    LockLostError if it was lost before that."""

    #: Set once the lock is lost.
    lost: asyncio.Event

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls this once when the lock is lost, in the next turn of the loop. So too if it is lost already."""
        self.hold.on_lost(callback)

    async def extend(self, lease: Optional[float] = None) -> bool:
        """Begins the lease anew, from now on with another length if one is given. False when the lock is lost. Raises
        what redis-py does when the server cannot be asked."""
        self._longer(lease)
        async with self.hold.extending:
            if self.held:
                await uncancelled(self.hold.extend(self._longer(lease)))
        return self.held

    async def release(self) -> bool:
        """Whether it was held until now. When it is not known, because no server answers, it is counted as held. It is
        released all the same when this is cancelled. A level that has others above it ends at the server when they do."""
        if self._gone:
            return False
        was_held, lowest = self.held, self._end()
        if lowest is None:
            return was_held
        if lowest._outer is None:
            self.hold.end()
            return await uncancelled(self._release(lowest, was_held))
        return await uncancelled(self.hold.settle(self._release(lowest, was_held)))

    async def _release(self, lowest: HeldLock, was_held: bool) -> bool:
        last = lowest._outer is None
        # Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
        keep_for = lowest._options.at_least if lowest.level == 1 else 0.0
        keep_until = self.hold.acquired + keep_for if keep_for and was_held else 0.0
        try:
            # An extension on its way must not come after the one that keeps the lock.
            async with self.hold.turn if not last else self.hold.extending if keep_until else contextlib.nullcontext():
                done = await self.hold.remote.release(self.hold.to_release(lowest._options), keep_until)
        except RedisError:
            done = None
        finally:
            if last:
                await self.hold.remote.end()
        if done is False and was_held:
            self.hold.tell_lost() if last else self.hold.lose_all()
        return was_held and done is not False

    async def guard(self, command: str, *args: Union[str, bytes, int, float], name: Optional[str] = None) -> Any:
        """Runs the command only if the lock is held at that moment, in one step, and returns its reply as it is. Raises
        LockLostError if it is not held any more: nothing has run then. Of several locks the first guards it, or the one
        with this `name`. It is sent once: when there is no reply it may have run, and what redis-py raises is raised.
        The keys of the command have to be in the slot of the lock, where there is a cluster."""
        try:
            return await self.hold.remote.guard(self._guarded(name, command, args))
        except ResponseError as error:
            if code_of(error) != "NOTOWNER":
                raise
            self.hold.lose_all()
            raise self._lost() from error

    async def __aenter__(self) -> HeldLock:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not self._released and not await self.release() and error is None:
            raise LockLostError("The lock was lost before the work was done.", lock_name=self.name)
