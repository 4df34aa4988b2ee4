"""The client for threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Optional, Union, Unpack

from redis.exceptions import ResponseError

from ._keeper import in_background
from ._majority import Majority
from ._server import AnyRedis, Server
from ._lease import Entered, Known
from ._steps import PATIENCE, PAUSE, How, Options, names_of, options_of, this_worker
from .errors import LockError, LockLostError, NotAcquiredError, passes
from .held import HeldLock, Hold


class LockClient:
    """Locks of the server that a redis-py client is for: redis.Redis, also of Sentinels, or redis.RedisCluster.

    It has connections of its own, with the settings of that client. At most `blocked` of them wait at a time; who waits
    beyond that keeps a place in the queue all the same, and waits on one as soon as it is free. Safe to share among threads.
    """

    def __init__(self, client: AnyRedis, *, blocked: int = 32) -> None:
        self._begin(Server(client, blocked))

    def _begin(self, server: Union[Server, Majority]) -> None:
        self._server = server
        self._mine = threading.local()

    def lock(self, name: str, **how: Any) -> Acquiring:
        """`with client.lock("order:44") as held:` takes what `acquire` takes, raises NotAcquiredError when the lock does
        not become available, and LockLostError at the end when it was lost before."""
        return Acquiring(self, (name,), how)

    def lock_all(self, names: Iterable[str], **how: Any) -> Acquiring:
        """The same for several locks together: see `acquire_all`."""
        return Acquiring(self, names_of(names), how)

    def acquire(
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
        """The held lock, or None when it is not available.

        lease     seconds until the lock ends by itself, 30 if nothing is said. It is renewed each third of that, unless
                  `renew` is False.
        wait      seconds to wait for it: 0 not at all, None without end.
        shared    with any number of others that ask for it so.
        limit     with others, up to so many holders together; 1, alone, if nothing is said.
        weight    so much of the limit counts this holder for: one who weighs 3 takes three of the permits of a semaphore.
        owner     who it is: LOCK.INFO shows it, and the server finds those who wait for each other, which is a
                  DeadlockError. Host, process and thread, if nothing is said.
        level     by default the next level of what this thread holds already; 1 is always a hold of its own. Others need
                  the `token` of the work that handed it on.
        session   it ends when its connection does, and at once if this process dies.
        delay     so many seconds after that: nobody else gets it before, so that work under way can end. It is lost here
                  all the same.
        replicas  so many have to confirm the grant and each extension.
        at_least  seconds for which nobody else gets it, even if it is released sooner. An inner level has none.
        """
        how = How(
            lease=lease, wait=wait, shared=shared, limit=limit, weight=weight, owner=owner, level=level, token=token,
            session=session, delay=delay, replicas=replicas, at_least=at_least, renew=renew,
        )  # fmt: skip
        return self._begin_acquire((name,), how, [])

    def acquire_all(self, names: Iterable[str], **how: Unpack[How]) -> Optional[HeldLock]:
        """Several locks together, at most 256: one held lock over all of them, or None when they are not all available.

        In one step, with one token, one lease and one fence. Who waits holds none of them meanwhile, and is first in all
        their queues when its turn comes. What `acquire` takes holds for each of them. If one is lost all are, and the rest is
        released. In a cluster all have to be in one slot: put the same {tag} in all names.
        """
        return self._begin_acquire(names_of(names), how, [])

    def _begin_acquire(self, names: tuple[str, ...], how: How, into: list[HeldLock]) -> Optional[HeldLock]:
        level = how.get("level")
        outer = self._known().outer(names) if level is None and how.get("token") is None else None
        options = options_of(names, how, this_worker(threading.get_native_id()), outer)
        if outer is not None:
            return self._acquire_level(names, options, outer, into)
        remote = self._server.for_hold(options)
        try:
            grant = remote.acquire(options)
            if grant is None:
                remote.end()
                return None
            held = HeldLock(Hold(remote, options, grant), options, names)
            if level is None:
                self._known().add(held)
            into.append(held)
            return held
        except BaseException as error:
            remote.end()
            self._give_up(options, error)
            raise

    def _acquire_level(
        self, names: tuple[str, ...], options: Options, outer: HeldLock, into: list[HeldLock]
    ) -> Optional[HeldLock]:
        hold, asked = outer.hold, False
        hold.settled(None if options.wait is None else max(options.wait, PATIENCE))
        try:
            with hold.turn:
                outer.check_held()
                asked = True
                with hold.extending:
                    grant = hold.remote.acquire(options)
                    if grant is None:
                        return None
                    hold.confirm(max(grant.ends, hold.ends), max(options.lease, hold.seconds))
                # Its lease may have ended here meanwhile, and nothing says after that that it is held.
                outer.check_held()
                held = HeldLock(hold, options, names, outer)
                into.append(held)
                return held
        except BaseException as error:
            if asked:
                if isinstance(error, LockLostError):
                    hold.lose_all()
                self._give_up(options, error, hold)
            raise

    def _give_up(self, options: Options, error: BaseException, of: Optional[Hold] = None) -> None:
        """Whatever the server did last, nothing is held and nobody waits: not even a second interrupt stops this."""
        times = 1 if isinstance(error, (ResponseError, LockError)) else 2
        if of is not None:
            release = of.settle(self._release, of.to_release(options), times)
        else:
            release = in_background(self._release, options, times, lasting=True)
        if not (isinstance(error, Exception) and passes(error)):
            release.join(PATIENCE)

    def _release(self, options: Options, times: int) -> None:
        # The server may read a request that was under way, on a connection that was closed, after the first of these.
        for number in range(times):
            time.sleep(PAUSE if number else 0)
            self._server.release(options)

    def _known(self) -> Known[HeldLock]:
        if not hasattr(self._mine, "known"):
            self._mine.known = Known[HeldLock]()
        return self._mine.known  # type: ignore[no-any-return]

    def close(self) -> None:
        """Closes the connections. What is held then lasts until its lease ends."""
        self._server.close()

    def __enter__(self) -> LockClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Acquiring:
    """What `with` acquires, each time anew. Threads may share it."""

    def __init__(self, client: LockClient, names: tuple[str, ...], how: Any) -> None:
        self._client, self._names, self._how = client, names, how
        self._entered = Entered[HeldLock]()

    def __enter__(self) -> HeldLock:
        # An interrupt may come between the return of `acquire` and the next line here. The list has the lock before.
        got: list[HeldLock] = []
        try:
            self._client._begin_acquire(self._names, self._how, got)
            if got:
                self._entered.add(threading.get_ident(), got[0])
                return got[0]
        except BaseException:
            for each in got:
                each.release()
            raise
        raise NotAcquiredError("The lock did not become available in time.", lock_name=self._names[0])

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._entered.take(threading.get_ident()).__exit__(kind, error, trace)
