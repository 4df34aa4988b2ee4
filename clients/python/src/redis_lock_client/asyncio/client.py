"""The client for asyncio."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Optional, Union, Unpack

from .._lease import Entered, Known
from .._steps import PATIENCE, PAUSE, Grant, How, Options, names_of, options_of, this_worker
from ..errors import LockLostError, NotAcquiredError, passes
from ._majority import Majority
from ._server import AnyRedis, Server
from ._tasks import keep, stop, uncancelled
from .held import HeldLock, Hold, Remote


class LockClient:
    """Locks of the server that a redis.asyncio client is for: Redis, also of Sentinels, or RedisCluster.

    It has connections of its own, with the settings of that client. Tasks that wait use none, but for sessions: they have
    places in the queue, and one subscription says whose turn it is. Without the right to subscribe they ask every second
    or two.
    """

    def __init__(self, client: AnyRedis) -> None:
        self._begin(Server(client))

    def _begin(self, server: Union[Server, Majority]) -> None:
        self._server = server
        self._mine: weakref.WeakKeyDictionary[asyncio.Task[Any], Known[HeldLock]] = weakref.WeakKeyDictionary()

    def lock(self, name: str, *, cancel_on_lost: bool = False, **how: Any) -> Acquiring:
        """`async with client.lock("order:44") as held:` takes what `acquire` takes, raises NotAcquiredError when the lock
        does not become available, and LockLostError at the end when it was lost before. With `cancel_on_lost` the end
        comes at once: what the task does in the block is cancelled."""
        return Acquiring(self, (name,), cancel_on_lost, how)

    def lock_all(self, names: Iterable[str], *, cancel_on_lost: bool = False, **how: Any) -> Acquiring:
        """The same for several locks together: see `acquire_all`."""
        return Acquiring(self, names_of(names), cancel_on_lost, how)

    async def acquire(
        self,
        name: str,
        *,
        lease: Optional[float] = None,
        wait: Optional[float] = None,
        shared: bool = False,
        limit: Optional[int] = None,
        weight: int = 1,
        owner: Optional[str] = None,
        level: Optional[int] = None,
        token: Optional[str] = None,
        session: bool = False,
        delay: float = 0.0,
        replicas: int = 0,
        at_least: float = 0.0,
        renew: bool = True,
    ) -> Optional[HeldLock]:
        """The held lock, or None when it is not available. See redis_lock_client.LockClient.acquire: all is the same,
        with the task for the thread."""
        how = How(
            lease=lease, wait=wait, shared=shared, limit=limit, weight=weight, owner=owner, level=level, token=token,
            session=session, delay=delay, replicas=replicas, at_least=at_least, renew=renew,
        )  # fmt: skip
        return await self._begin_acquire((name,), how)

    async def acquire_all(self, names: Iterable[str], **how: Unpack[How]) -> Optional[HeldLock]:
        """Several locks together: one held lock over all of them, or None when they are not all available. See
        redis_lock_client.LockClient.acquire_all."""
        return await self._begin_acquire(names_of(names), how)

    async def _begin_acquire(self, names: tuple[str, ...], how: How) -> Optional[HeldLock]:
        task, level = asyncio.current_task(), how.get("level")
        assert task is not None
        known = self._mine.setdefault(task, Known())
        outer = known.outer(names) if level is None and how.get("token") is None else None
        options = options_of(names, how, this_worker(id(task)), outer)
        if outer is not None:
            return await self._acquire_level(names, options, outer)
        held = await self._acquire(names, options)
        if held is not None and level is None:
            known.add(held)
        return held

    async def _acquire(self, names: tuple[str, ...], options: Options) -> Optional[HeldLock]:
        remote = self._server.for_hold(options)
        asking = keep(remote.acquire(options))
        try:
            # The task is not cancelled with this one, but by `_give_up`, which waits for its end.
            grant = await asyncio.shield(asking)
            if grant is not None:
                return HeldLock(Hold(remote, options, grant), options, names)
            await remote.end()
            return None
        except BaseException as error:
            await self._done_with(error, keep(self._give_up(error, asking, options, remote)))
            raise

    async def _acquire_level(self, names: tuple[str, ...], options: Options, outer: HeldLock) -> Optional[HeldLock]:
        hold, asking = outer.hold, None
        await hold.settled(None if options.wait is None else max(options.wait, PATIENCE))
        try:
            async with hold.turn:
                outer.check_held()
                asking = keep(self._ask_level(hold, options))
                grant = await asyncio.shield(asking)
                # Its lease may have ended here meanwhile, and nothing says after that that it is held.
                outer.check_held()
                return None if grant is None else HeldLock(hold, options, names, outer)
        except BaseException as error:
            if asking is not None:
                if isinstance(error, LockLostError):
                    hold.lose_all()
                await self._done_with(error, hold.settle(self._give_up(error, asking, hold.to_release(options))))
            raise

    async def _ask_level(self, hold: Hold, options: Options) -> Optional[Grant]:
        async with hold.extending:
            grant = await hold.remote.acquire(options)
            if grant is not None:
                hold.confirm(max(grant.ends, hold.ends), max(options.lease, hold.seconds))
            return grant

    async def _done_with(self, error: BaseException, giving_up: asyncio.Future[None]) -> None:
        """Where no server answers nobody waits for the end of that."""
        if not (isinstance(error, Exception) and passes(error)):
            await uncancelled(giving_up)

    async def _give_up(
        self, error: BaseException, asking: asyncio.Future[Any], options: Options, remote: Optional[Remote] = None
    ) -> None:
        """Whatever the server did last, nothing is held and nobody waits."""
        await stop(asking)
        if remote is not None:
            await remote.end()
        times = 2 if isinstance(error, Exception) and passes(error) else 1
        # The server may read a request that was not answered, on a connection that was closed, after the first of these.
        for number in range(times):
            await asyncio.sleep(PAUSE if number else 0)
            await self._server.release(options)

    async def close(self) -> None:
        """Closes the connections. What is held then lasts until its lease ends."""
        await self._server.close()

    async def __aenter__(self) -> LockClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Acquiring:
    """What `async with` acquires, each time anew. Tasks may share it."""

    def __init__(self, client: LockClient, names: tuple[str, ...], cancel_on_lost: bool, how: Any) -> None:
        self._client, self._names, self._how, self._cancels = client, names, how, cancel_on_lost
        self._entered = Entered[Block]()

    async def __aenter__(self) -> HeldLock:
        held = await self._client._begin_acquire(self._names, self._how)
        if held is None:
            raise NotAcquiredError("The lock did not become available in time.", lock_name=self._names[0])
        block = Block(held)
        if self._cancels:
            held.on_lost(block.cancel)
        self._entered.add(asyncio.current_task(), block)
        return held

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self._entered.take(asyncio.current_task()).end(kind, error, trace)


class Block:
    """The body of one `async with`, which the loss of its lock may cancel."""

    def __init__(self, held: HeldLock) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._held, self._task, self._cancelled_before = held, task, task.cancelling()
        self._over = self._cancelled = False

    def cancel(self) -> None:
        if not self._over:
            self._cancelled = True
            self._task.cancel()

    async def end(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._over = True
        late: Optional[asyncio.CancelledError] = None
        try:
            if self._cancelled:
                # The body may have ended before the cancellation reached it. Then it comes here, and to nobody after this.
                await asyncio.sleep(0)
            await self._held.__aexit__(kind, error, trace)
        except asyncio.CancelledError as cancelled:
            late = cancelled
            await self._held.__aexit__(kind, error or late, trace)
        finally:
            # Whoever else has cancelled the task meanwhile is obeyed.
            only_lost = self._cancelled and self._task.uncancel() <= self._cancelled_before
        if only_lost and isinstance(error or late, asyncio.CancelledError):
            raise LockLostError("The lock was lost before the work was done.", lock_name=self._held.name) from error
        if late and not only_lost:
            raise late
