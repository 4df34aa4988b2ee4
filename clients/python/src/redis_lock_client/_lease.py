"""The lease of a hold by our own clock: when it is renewed, when it is over, and who is told."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, Optional, Self, TypeVar

from ._steps import Grant, Options, Words, check_lease, now
from .errors import LockLostError

# How often a session looks whether its connection is still there, in seconds.
LOOK = 0.1


class Lease:
    """Of the hold of one token, whatever its level. The clients with threads and with asyncio add how they wait."""

    def __init__(self, options: Options, grant: Grant, lost: Any) -> None:
        self.options, self.fence, self.acquired, self.lost = options, grant.fence, now(), lost
        self._process = os.getpid()
        #: Its levels, as long as somebody has them.
        self.levels: list[weakref.ref[Any]] = []
        #: So that of two levels that end at a time one sees the other.
        self.changing = threading.Lock()
        #: Rises when what is due has changed.
        self.version = 0
        self._lock, self._callbacks = threading.Lock(), list[Callable[[], object]]()
        self._renewing = self._over = False
        self.ends = self._renew_at = grant.ends
        self.seconds = self._asked_for = options.lease
        self.confirm(grant.ends, options.lease)

    def watch(self, at: float) -> None:
        """Calls `tend` at that time, as long as this object is there: who drops a held lock lets its lease run out."""
        raise NotImplementedError

    def renew(self) -> None:
        """Begins a renewal, at whose end `renewed` is called."""
        raise NotImplementedError

    def tell(self, callback: Callable[[], object]) -> None:
        raise NotImplementedError

    def hung_up(self) -> bool:
        """Whether the server has closed the connection of a session."""
        raise NotImplementedError

    def confirm(self, ends: float, seconds: float) -> None:
        """What comes too late does not count any more."""
        if not self.remaining:
            return
        with self._lock:
            self.ends, self.seconds = ends, seconds
            self._renew_at = ends - seconds * 2 / 3
            self.version += 1
        self.watch(self._sooner(self._renew_at if self.options.renew else ends))

    def shorten(self, seconds: float) -> None:
        """To be called before an extension is asked for: a shorter lease may begin at once, also if its reply is lost."""
        with self._lock:
            self._asked_for = seconds
            ends = min(self.ends, now() + seconds)
            if ends == self.ends:
                return
            self.ends = ends
            self.version += 1
        self.watch(self._sooner(ends))

    def to_release(self, options: Options) -> Options:
        """What to release, for as long as the server may hold it, whether it has confirmed the last extension or not."""
        return replace(options, lease=max(self.seconds, self._asked_for))

    def tend(self) -> Optional[float]:
        """Does what is due, and says when to come again, or None when that is never."""
        if not self.remaining:
            return None
        with self._lock:
            waits = self.options.renew and not self._renewing
            due = waits and now() >= self._renew_at
            self._renewing = self._renewing or due
        if due:
            self.renew()
        return self._sooner(self._renew_at if waits and not due else self.ends)

    def _sooner(self, at: float) -> float:
        """A session looks again and again whether its connection is there."""
        return min(at, now() + LOOK) if self.options.session else at

    def renewed(self) -> None:
        """Or not: then it is tried again, and lost when its time is over."""
        with self._lock:
            self._renewing = False
            self._renew_at = max(self._renew_at, now() + self.seconds / 10)
            self.version += 1
        self.watch(self._sooner(min(self._renew_at, self.ends)))

    @property
    def is_ours(self) -> bool:
        """Not in a child of the process that acquired it: what that has after a fork is a copy, which tells nobody."""
        return self._process == os.getpid()

    @property
    def remaining(self) -> float:
        """The seconds that are left. Once this is 0 it stays so: the lock is lost, or was released."""
        with self._lock:
            if self._over:
                return 0.0
            left = 0.0 if self.hung_up() else self.ends - now()
            self._over = left <= 0
        if left <= 0:
            self.tell_lost()
        return max(0.0, left)

    def end(self) -> bool:
        """Nothing says from now on that it is held. Whether something did until now."""
        with self._lock:
            was, self._over = not self._over, True
        return was

    def lose(self) -> None:
        if self.end():
            self.tell_lost()

    def tell_lost(self) -> None:
        with self._lock:
            self.lost.set()
            callbacks, self._callbacks = self._callbacks, []
        for each in callbacks:
            self.tell(each)

    def on_lost(self, callback: Callable[[], object]) -> None:
        with self._lock:
            if not self.lost.is_set():
                self._callbacks.append(callback)
                return
        self.tell(callback)


HoldT = TypeVar("HoldT", bound=Lease)


class Level(Generic[HoldT]):
    """A level of a hold, as whoever holds it sees it."""

    def __init__(self, hold: HoldT, options: Options, names: tuple[str, ...], outer: Optional[Self] = None) -> None:
        #: Of all locks that it is of, in the order in which they were asked for, and the first of them.
        self.names, self.name = names, names[0]
        self.token, self.level, self.fence = options.token, options.level, hold.fence
        self.lost = hold.lost
        self.hold, self._options, self._released, self._outer = hold, options, False, outer
        hold.levels = [*(each for each in hold.levels if each() is not None), weakref.ref(self)]

    @property
    def of_hold(self) -> Options:
        """What the hold was acquired with."""
        return self.hold.options

    @property
    def all_names(self) -> tuple[str, ...]:
        """What the token holds: a level that was asked of some of it is one of all."""
        return self.of_hold.names

    @property
    def seconds(self) -> float:
        """The length of the lease."""
        return self.hold.seconds

    def _longer(self, lease: Optional[float]) -> float:
        """How long the lease is to be where this was asked for: a level makes that of its hold no shorter."""
        if lease is None:
            return self.seconds
        check_lease(lease)
        return max(lease, self.seconds) if self.level > 1 else lease

    def _end(self) -> Optional[Self]:
        """From now on it is released. What is to be released at the server, with all above it: this one, or the lowest
        level that only those above have kept. None while there is one above this: the server would end that as well."""
        with self.hold.changing:
            self._released = True
            for each in self.hold.levels:
                level = each()
                if level is not None and level.level > self.level and not level._gone:
                    return None
            lowest = self
            while lowest._outer is not None and lowest._outer._released:
                lowest = lowest._outer
            return lowest

    def _guarded(self, name: Optional[str], command: str, args: tuple[Any, ...]) -> Words:
        """The words of LOCK.GUARD."""
        if name is not None and name not in self.names:
            raise ValueError(f"this is not the lock {name}, but {', '.join(self.names)}")
        if not self.held:
            raise self._lost()
        return ("LOCK.GUARD", name or self.name, self.token, command, *args)

    def _lost(self) -> LockLostError:
        return LockLostError("The lock is not held any more, and nothing has run.", lock_name=self.name)

    def check_held(self) -> None:
        """To be called before and after a further level is asked for."""
        if not self.held:
            raise LockLostError("The outer level is not held any more.", lock_name=self.name)

    @property
    def remaining(self) -> float:
        """The seconds that are left of the lease, counted from before it was asked for."""
        return 0.0 if self._gone else self.hold.remaining

    @property
    def _gone(self) -> bool:
        """Whether it was released, or is held by the process that this one was forked from."""
        return self._released or not self.hold.is_ours

    @property
    def held(self) -> bool:
        """Whether it is held, as far as is known here. Never again once it is lost or released."""
        return self.remaining > 0


LevelT = TypeVar("LevelT", bound=Level[Any])


class Known(Generic[LevelT]):
    """What one thread or task holds, as long as somebody has it: what it asks for again is the next level of that."""

    def __init__(self) -> None:
        self._holds: weakref.WeakValueDictionary[str, Lease] = weakref.WeakValueDictionary()

    def add(self, held: LevelT) -> None:
        for name in held.all_names:
            # Readers may hold some of several locks by another token as well.
            if self._innermost(name) is None:
                self._holds[name] = held.hold

    def outer(self, names: tuple[str, ...]) -> Optional[LevelT]:
        """The innermost level of a hold of all these."""
        for name in names:
            level = self._innermost(name)
            if level is not None and set(names) <= set(level.all_names):
                return level
        return None

    def _innermost(self, name: str) -> Optional[LevelT]:
        hold = self._holds.get(name)
        for each in reversed(hold.levels if hold is not None else []):
            level: Optional[LevelT] = each()
            if level is not None and not level._gone:
                return level
        return None


EnteredT = TypeVar("EnteredT")


class Entered(Generic[EnteredT]):
    """What threads or tasks have entered that share one `with`: each leaves its own, the innermost first."""

    def __init__(self) -> None:
        self._all: list[tuple[object, EnteredT]] = []

    def add(self, worker: object, entered: EnteredT) -> None:
        self._all.append((worker, entered))

    def take(self, worker: object) -> EnteredT:
        """That of another one where this one has entered nothing, but leaves what that has begun."""
        entries = list(self._all)
        entry = next((each for each in reversed(entries) if each[0] == worker), entries[-1])
        self._all.remove(entry)
        return entry[1]
