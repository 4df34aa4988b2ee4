"""A lock that is held, for threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Optional, Protocol, Union

from redis.exceptions import RedisError, ResponseError, TimeoutError

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
        # And so do requests for levels, and their releases.
        self.turn = threading.Lock()
        self._unsettled: Optional[threading.Thread] = None
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
                in_background(self.remote.release, self.to_release(self.options), 0.0)

    def settle(self, release: Callable[..., object], *args: Any) -> threading.Thread:
        """Releases a level in the background, where it was given up or somebody was interrupted."""
        before = self._unsettled

        def run() -> None:
            if before is not None:
                before.join()
            release(*args)

        self._unsettled = in_background(run, lasting=True)
        return self._unsettled

    def settled(self, seconds: Optional[float] = None) -> None:
        """Waits until that is done: the next level has the same number, and would be released by it."""
        release = self._unsettled
        if release is None:
            return
        release.join(seconds)
        if release.is_alive():
            raise TimeoutError("A level that was given up could not be released yet.")


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
        self._longer(lease)
        if self.held:
            with self.hold.extending:
                if self.held:
                    self.hold.extend(self._longer(lease))
        return self.held

    def release(self) -> bool:
        """Whether it was held until now. When it is not known, because no server answers, it is counted as held. A level
        that has others above it ends at the server when they do."""
        if self._gone:
            return False
        was_held = self.held
        try:
            return self._release(was_held) is not False and was_held
        except BaseException:
            # Interrupted: it is released all the same.
            self.hold.settle(self._release, was_held, True)
            raise

    def _release(self, was_held: bool, settles: bool = False) -> Optional[bool]:
        lowest = self._end()
        if lowest is None:
            return None
        last = lowest._outer is None
        # Who was handed the token gives back a level. How long the lock lasts is up to the outer one.
        keep = lowest._options.at_least if lowest.level == 1 else 0.0
        keep_until = self.hold.acquired + keep if keep and was_held else 0.0
        try:
            if last:
                self.hold.end()
            elif not settles:
                self.hold.settled()
            # An extension on its way must not come after the one that keeps the lock.
            with self.hold.turn if not last else self.hold.extending if keep_until else contextlib.nullcontext():
                done = self.hold.remote.release(self.hold.to_release(lowest._options), keep_until)
        except RedisError:
            done = None
        finally:
            if last:
                self.hold.remote.end()
        if done is False and was_held:
            self.hold.tell_lost() if last else self.hold.lose_all()
        return done

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
