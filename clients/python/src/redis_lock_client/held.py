"""A lock that is held, for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Optional, Protocol

from redis.exceptions import RedisError

from ._keeper import in_background, keeper
from ._steps import Grant, Options, now
from .errors import LockLostError


class Remote(Protocol):
    """What it is held of: a server, or the majority of several."""

    def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        """When the lease ends, or None when the lock is lost. Raises when that cannot be said."""

    def release(self, options: Options, keep_until: float) -> Optional[bool]:
        """Whether it was held until now, or None when that is not known."""

    def end(self) -> None:
        """The hold has ended."""


class Hold:
    """The hold of one token, whatever its level: its lease, and whether it is lost."""

    def __init__(self, remote: Remote, options: Options, grant: Grant) -> None:
        self.remote, self.options, self.fence = remote, options, grant.fence
        self.acquired, self.lost, self.version = now(), threading.Event(), 0
        # Extensions go one by one, so that what is said last is what the server did last.
        self.extending = threading.Lock()
        self._lock, self._callbacks = threading.Lock(), list[Callable[[], object]]()
        self._renewing = self._over = False
        self.confirm(grant.ends, options.lease)

    def confirm(self, ends: float, lease: float) -> None:
        with self._lock:
            self.ends, self.lease = ends, lease
            self._renew_at = ends - lease * 2 / 3
            self.version += 1
        keeper.watch(self, self._renew_at if self.options.renew else ends)

    @property
    def remaining(self) -> float:
        return 0.0 if self._over else max(0.0, self.ends - now())

    def tend(self) -> Optional[float]:
        if self._over:
            return None
        if now() >= self.ends:
            self.lose()
            return None
        with self._lock:
            due = self.options.renew and not self._renewing
            if due and now() >= self._renew_at:
                self._renewing, due = True, False
                in_background(self._renew)
            return min(self._renew_at, self.ends) if due else self.ends

    def _renew(self) -> None:
        try:
            with self.extending:
                if not self._over:
                    self.extend(self.lease)
        except RedisError:
            # Not confirmed: when the lease ends it is lost.
            pass
        finally:
            self._renewing = False

    def extend(self, lease: float) -> None:
        """With `extending`."""
        try:
            ends = self.remote.extend(self.options, lease, self.ends)
        except RedisError:
            if self.options.session:
                # Its connection is gone, and the lock with it.
                self.lose()
            raise
        if ends is None:
            self.lose()
        elif not self._over:
            self.confirm(ends, lease)

    def lose(self) -> None:
        if self.end():
            self.tell_lost()

    def tell_lost(self) -> None:
        with self._lock:
            self.lost.set()
            callbacks, self._callbacks = self._callbacks, []
        for each in callbacks:
            in_background(each)

    def end(self) -> bool:
        """Nothing says from now on that it is held. Whether something did until now."""
        with self._lock:
            was, self._over = not self._over, True
        return was

    def on_lost(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self.lost.is_set():
                self._callbacks.append(callback)
                return
        callback()


class HeldLock:
    """A lock that is held, or one level of it. `with` releases it at the end, and raises LockLostError if it was lost
    before that."""

    def __init__(self, hold: Hold, options: Options, outer: Optional[HeldLock] = None) -> None:
        self.name, self.token, self.level, self.fence = options.name, options.token, options.level, hold.fence
        #: Set once the lock is lost.
        self.lost = hold.lost
        self.hold, self._options, self._released = hold, options, False
        self._outer = outer

    @property
    def remaining(self) -> float:
        """The seconds that are left of the lease, counted from before it was asked for."""
        return 0.0 if self._released else self.hold.remaining

    @property
    def held(self) -> bool:
        """Whether it is held, as far as is known here. Never again once it is lost or released."""
        return self.remaining > 0

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls this once when the lock is lost, in a thread of its own; now, if it is."""
        self.hold.on_lost(callback)

    def extend(self, lease: Optional[float] = None) -> bool:
        """Begins the lease anew, from now on with another length if one is given. False when the lock is lost. Raises
        what redis-py does when the server cannot be asked."""
        with self.hold.extending:
            if self.held:
                self.hold.extend(lease or self.hold.lease)
        return self.held

    def release(self) -> bool:
        """Whether it was held until now. When it is not known, because no server answers, it is counted as held."""
        if self._released:
            return False
        was_held, self._released = self.held, True
        last = self._outer is None
        if not was_held:
            self.hold.lose()
        if last:
            self.hold.end()
        keep = self._options.at_least
        keep_until = self.hold.acquired + keep if keep and was_held and last else 0.0
        release = self.hold.remote.release
        try:
            done = release(self._options, keep_until)
        except RedisError:
            done = None
        except BaseException:
            # Interrupted: it is released all the same.
            in_background(release, self._options, keep_until, lasting=True)
            raise
        finally:
            if last:
                self.hold.remote.end()
        if done is False and was_held:
            self.hold.tell_lost()
        return was_held and done is not False

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not self._released and not self.release() and error is None:
            raise LockLostError("The lock was lost before the work was done.", lock_name=self.name)

    def not_released(self) -> Optional[HeldLock]:
        """This, or the next outer level that was not released yet."""
        level: Optional[HeldLock] = self
        while level is not None and level._released:
            level = level._outer
        return level
