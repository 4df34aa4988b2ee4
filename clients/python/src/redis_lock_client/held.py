"""A lock that is held, for threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Optional, Protocol, Union

from redis.exceptions import RedisError, ResponseError

from ._keeper import in_background, keeper
from ._lease import Lease, Level
from ._steps import Grant, Options, Words
from .errors import LockLostError, code_of


class Remote(Protocol):
    """What it is held of: a server, or the majority of several."""

    def acquire(self, options: Options) -> Optional[Grant]:
        """None when it is not available."""

    def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        """When the lease ends, or None when the lock is lost. Raises when that cannot be said."""

    def release(self, options: Options, keep_until: float) -> Optional[bool]:
        """Whether it was held until now, or None when that is not known."""

    def guard(self, words: Words) -> Any:
        """The reply to LOCK.GUARD."""

    def hung_up(self) -> bool:
        """Of a session: whether its connection is gone."""

    def end(self) -> None:
        """The hold has ended."""


class Hold(Lease):
    """The hold of one token."""

    def __init__(self, remote: Remote, options: Options, grant: Grant) -> None:
        self.remote = remote
        # Extensions go one by one, so that what is said last is what the server did last.
        self.extending = threading.Lock()
        super().__init__(options, grant, threading.Event())

    def hung_up(self) -> bool:
        return self.options.session and self.remote.hung_up()

    def watch(self, at: float) -> None:
        keeper.watch(self, at)

    def tell(self, callback: Callable[[], object]) -> None:
        in_background(callback)

    def renew(self) -> None:
        try:
            in_background(self._renew)
        except RuntimeError:
            self.renewed()
            raise

    def _renew(self) -> None:
        try:
            with self.extending:
                if self.remaining:
                    self.extend(self.seconds)
        except RedisError:
            pass
        finally:
            self.renewed()

    def extend(self, seconds: float) -> None:
        """With `extending`."""
        self.shorten(seconds)
        try:
            ends = self.remote.extend(self.options, seconds, self.ends)
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
            with contextlib.suppress(RuntimeError):
                in_background(self.remote.release, self.options, 0.0)


class HeldLock(Level[Hold]):
    """A lock that is held, or several together, or one level of it. `with` releases it at the end, and raises
    LockLostError if it was lost before that."""

    #: Set once the lock is lost.
    lost: threading.Event

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Calls this once when the lock is lost, in a thread of its own. At once, if it is lost already."""
        self.hold.on_lost(callback)

    def extend(self, lease: Optional[float] = None) -> bool:
        """Begins the lease anew, from now on with another length if one is given. False when the lock is lost. Raises
        what redis-py does when the server cannot be asked."""
        if self.held:
            with self.hold.extending:
                if self.held:
                    self.hold.extend(lease or self.hold.seconds)
        return self.held

    def release(self) -> bool:
        """Whether it was held until now. When it is not known, because no server answers, it is counted as held."""
        if self._gone:
            return False
        was_held = self.held
        last = self._outer is None
        # Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
        keep = self._options.at_least if self.level == 1 else 0.0
        keep_until = self.hold.acquired + keep if keep and was_held else 0.0
        try:
            self._released = True
            if last:
                self.hold.end()
            # An extension on its way must not come after the one that keeps the lock.
            with self.hold.extending if keep_until else contextlib.nullcontext():
                done = self.hold.remote.release(self._options, keep_until)
        except RedisError:
            done = None
        except BaseException:
            # Interrupted: it is released all the same.
            in_background(self.hold.remote.release, self._options, keep_until, lasting=True)
            raise
        finally:
            if last:
                self.hold.remote.end()
        if done is False and was_held:
            self.hold.tell_lost()
        return was_held and done is not False

    def guard(self, command: str, *args: Union[str, bytes, int, float], name: Optional[str] = None) -> Any:
        """Runs the command only if the lock is held at that moment, in one step, and returns its reply as it is. Raises
        LockLostError if it is not held any more: nothing has run then. Of several locks the first guards it, or the one
        with this `name`. It is sent once: when there is no reply it may have run, and what redis-py raises is raised.
        The keys of the command have to be in the slot of the lock, where there is a cluster."""
        try:
            return self.hold.remote.guard(self._guarded(name, command, args))
        except ResponseError as error:
            if code_of(error) != "NOTOWNER":
                raise
            self.hold.lose_all()
            raise self._lost() from error

    def __enter__(self) -> HeldLock:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if not self._released and not self.release() and error is None:
            raise LockLostError("The lock was lost before the work was done.", lock_name=self.name)
