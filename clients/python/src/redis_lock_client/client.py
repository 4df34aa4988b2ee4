"""The client for threads."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Optional, Union

from redis.exceptions import ResponseError

from ._keeper import in_background
from ._majority import Majority
from ._server import AnyRedis, Server
from ._steps import LEASE, PATIENCE, PAUSE, Options, options_of
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
        return Acquiring(self, name, how)

    def acquire(
        self,
        name: str,
        *,
        lease: Optional[float] = None,
        wait: Optional[float] = None,
        shared: bool = False,
        limit: Optional[int] = None,
        owner: Optional[str] = None,
        level: Optional[int] = None,
        token: Optional[str] = None,
        session: bool = False,
        replicas: int = 0,
        at_least: float = 0.0,
        renew: bool = True,
        _into: Optional[list[HeldLock]] = None,
    ) -> Optional[HeldLock]:
        """The held lock, or None when it is not available.

        lease     seconds until the lock ends by itself, 30 if nothing is said. It is renewed each third of that, unless
                  `renew` is False.
        wait      seconds to wait for it: 0 not at all, None without end.
        shared    with any number of others that ask for it so.
        limit     with others, up to so many holders together; 1, alone, if nothing is said.
        owner     what LOCK.INFO shows of it: host and process, if nothing is said.
        level     by default the next level of what this thread holds already; 1 is always a hold of its own. Others need
                  the `token` of the work that handed it on.
        session   it ends when its connection does, and at once if this process dies.
        replicas  so many have to confirm the grant and each extension.
        at_least  seconds for which nobody else gets it, even if it is released sooner.
        """
        outer = self._outer(name) if level is None and token is None else None
        options = options_of(
            name=name, lease=lease or (outer.hold.seconds if outer else LEASE), wait=wait, shared=shared, limit=limit,
            owner=owner, session=session, replicas=replicas, at_least=at_least, renew=renew,
            token=outer.token if outer else token, level=outer.level + 1 if outer else level or 1,
        )  # fmt: skip
        return self._acquire(options, outer, known=level is None, into=[] if _into is None else _into)

    def _acquire(
        self, options: Options, outer: Optional[HeldLock], known: bool, into: list[HeldLock]
    ) -> Optional[HeldLock]:
        remote = self._server.for_hold(options)
        try:
            with outer.hold.extending if outer else contextlib.nullcontext():
                grant = remote.acquire(options)
                if outer and grant:
                    outer.hold.confirm(max(grant.ends, outer.hold.ends), max(options.lease, outer.hold.seconds))
            if grant is None:
                remote.end()
                return None
            held = HeldLock(outer.hold if outer else Hold(remote, options, grant), options, outer)
            if known:
                self._held_by_this_thread()[options.name] = held
            into.append(held)
            return held
        except BaseException as error:
            remote.end()
            if outer and isinstance(error, LockLostError):
                outer.hold.lose()
            self._give_up(options, error)
            raise

    def _give_up(self, options: Options, error: BaseException) -> None:
        """Whatever the server did last, nothing is held and nobody waits: not even a second interrupt stops this."""
        answered = isinstance(error, ResponseError) or isinstance(error, LockError)
        release = in_background(self._release, options, 1 if answered else 2, lasting=True)
        if not (isinstance(error, Exception) and passes(error)):
            release.join(PATIENCE)

    def _release(self, options: Options, times: int) -> None:
        # The server may read a request that was under way, on a connection that was closed, after the first of these.
        for number in range(times):
            time.sleep(PAUSE if number else 0)
            self._server.release(options)

    def _held_by_this_thread(self) -> weakref.WeakValueDictionary[str, HeldLock]:
        if not hasattr(self._mine, "held"):
            self._mine.held = weakref.WeakValueDictionary()
        return self._mine.held  # type: ignore[no-any-return]

    def _outer(self, name: str) -> Optional[HeldLock]:
        held = self._held_by_this_thread().get(name)
        return held.not_gone() if held else None

    def close(self) -> None:
        """Closes the connections. What is held then lasts until its lease ends."""
        self._server.close()

    def __enter__(self) -> LockClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Acquiring:
    """What `with` acquires, each time anew."""

    def __init__(self, client: Any, name: str, how: dict[str, Any]) -> None:
        self._client, self._name, self._how = client, name, how
        self._held: list[HeldLock] = []

    def __enter__(self) -> HeldLock:
        # An interrupt may come between the return of `acquire` and the next line here. The list has the lock before.
        got: list[HeldLock] = []
        try:
            self._client.acquire(self._name, _into=got, **self._how)
            if got:
                self._held += got
                return got[0]
        except BaseException:
            for each in got:
                each.release()
            raise
        raise NotAcquiredError("The lock did not become available in time.", lock_name=self._name)

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._held.pop().__exit__(kind, error, trace)
