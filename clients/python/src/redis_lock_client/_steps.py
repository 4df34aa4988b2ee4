"""What a client asks and when, without a connection: generators that yield steps and are sent replies.

The client with threads and the one with asyncio both perform these steps, each in its own way, so that what is right is
written once. A reply that does not come, or an error of the server, is thrown into the generator. The loops are those of
docs/clients.md.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Protocol, TypedDict, TypeVar, Union

from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from .errors import LockLostError, TooFewReplicasError, code_of, passes, reraise

# All in seconds.
LEASE = 30.0  # of who names none
PAUSE = 0.1  # between a request that failed and the next one
REPEAT = 2.0  # between requests of one who waits: less than lock.claim-lease, with room for a slow reply
QUEUE = 15.0  # how long the place is kept: longer than it takes to come back after a broken connection
SOON = 0.05  # the first such repeat of one who waits without a connection
PATIENCE = 2.0  # how long an acquire that does not wait tries again what passes
REDIRECTIONS = 4  # that are followed one after the other, of a command that is sent once
MOST = 256  # locks that can be acquired together
MOST_HOLDERS = 65535  # of one lock
TIMEOUT = 5.0  # of a socket that has none: no request may hang for ever

Words = tuple[Union[str, bytes, int], ...]
T = TypeVar("T")

now = time.monotonic


def ms(seconds: float) -> int:
    """At least 1, since `BLOCK 0` waits without end."""
    return max(1, round(seconds * 1000))


def check_lease(seconds: float) -> None:
    if not 0 < seconds < float("inf"):
        raise ValueError("a lease is a number of seconds above 0")


def this_worker(number: int) -> str:
    """The label of a thread or task that has this number. Not of the process: the server finds deadlocks among labels."""
    return f"{socket.gethostname()[:128]}:{os.getpid()}:{number}"


class How(TypedDict, total=False):
    """How a lock is asked for: see LockClient.acquire."""

    lease: Optional[float]
    wait: Optional[float]
    shared: bool
    limit: Optional[int]
    weight: int
    owner: Optional[str]
    level: Optional[int]
    token: Optional[str]
    session: bool
    delay: float
    replicas: int
    at_least: float
    renew: bool


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    names: tuple[str, ...]
    lease: float = LEASE
    wait: Optional[float] = None
    limit: int = 1  # 0: shared
    weight: int = 1
    owner: Optional[str] = None
    level: int = 1
    session: bool = False
    delay: float = 0.0
    replicas: int = 0
    at_least: float = 0.0
    renew: bool = True
    # Made before anything is sent, so that a request whose reply was lost can be sent again.
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MOST:
            raise ValueError(f"so many locks can be acquired together: 1 to {MOST}")
        if not 1 <= self.weight <= (self.limit or MOST_HOLDERS):
            raise ValueError("weight is 1 to the limit, or with shared to 65535; without either it is 1")
        if not self.delay >= 0 or (self.delay and not self.session):
            raise ValueError("delay is for a session, and not negative")
        check_lease(self.lease)
        if not self.at_least >= 0 or not (self.wait or 0) >= 0:
            raise ValueError("wait and at_least are seconds, and not negative")
        if self.level < 1 or self.replicas < 0:
            raise ValueError("levels begin at 1, and replicas are not negative")
        if self.session and self.at_least:
            raise ValueError("a session ends with its connection, so it cannot have at_least")

    @property
    def name(self) -> str:
        """The first of them. Whose turn it is is said on its channel, and it says which node of a cluster they are on."""
        return self.names[0]

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    def parted(self) -> tuple[Options, ...]:
        """The same for each of the locks by itself."""
        return tuple(replace(self, names=(name,)) for name in self.names)

    def is_of_all(self, reply: Any) -> bool:
        """Whether a reply says that the token holds, or held, all of the locks."""
        return isinstance(reply, list) or reply == len(self.names)

    def _words(self, what: str) -> Words:
        return (f"LOCK.M{what}", len(self.names), *self.names) if self.several else (f"LOCK.{what}", self.name)

    def acquire(self, *more: Union[str, int]) -> Words:
        words = [*self._words("ACQUIRE"), "PX", ms(self.lease), "TOKEN", self.token]
        if self.level > 1:
            # Label and limit stay those of the outer level.
            words += ["LEVEL", self.level]
        else:
            words += [] if self.owner is None else ["OWNER", self.owner]
            words += ["LIMIT", self.limit] if self.limit else ["SHARED"]
            words += ["WEIGHT", self.weight] if self.weight > 1 else []
        words += ["SESSION"] if self.session else []
        words += ["DELAY", ms(self.delay)] if self.delay else []
        return (*words, *more)

    def extend(self, lease: float) -> Words:
        return (*self._words("EXTEND"), self.token, "PX", ms(lease))

    def renewing(self, lease: float) -> Words:
        """A level that was handed on must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not."""
        return replace(self, lease=lease).acquire() if self.level > 1 else self.extend(lease)

    def release(self) -> Words:
        """Of several locks level 1: deeper ones are given back one by one."""
        level = ("LEVEL", self.level) if self.level > 1 else ()
        return (*self._words("RELEASE"), self.token, *level)


def first_key(words: Words) -> str:
    """Of a command for several locks the keys come after their number."""
    return str(words[2 if str(words[0]).startswith("LOCK.M") else 1])


def slot_of(name: str) -> int:
    return key_slot(name.encode())


class Outer(Protocol):
    """The level that a caller holds already."""

    @property
    def token(self) -> str: ...
    @property
    def level(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def of_hold(self) -> Options: ...


def names_of(names: Iterable[str]) -> tuple[str, ...]:
    """Each once, in the order given."""
    if isinstance(names, (str, bytes)):
        raise TypeError("the names are to be several strings, and not one")
    return tuple(dict.fromkeys(names))


def options_of(names: tuple[str, ...], how: How, worker: str, outer: Optional[Outer]) -> Options:
    """As the caller says it. A level is one of all that its token holds, so that one lease is the lease of all, and takes
    from the hold how that is kept."""
    given: dict[str, Any] = {**how}
    shared, limit, token = given.pop("shared", False), given.pop("limit", None), given.pop("token", None)
    level, lease = given.pop("level", None), given.pop("lease", None)
    if limit is not None and not 1 <= limit <= MOST_HOLDERS:
        raise ValueError(f"limit is 1 to {MOST_HOLDERS}")
    if shared and limit is not None:
        raise ValueError("shared and limit exclude each other")
    if (level or 1) > 1 and token is None:
        raise ValueError("a level above 1 needs the token that it was handed")
    if (level or 1) > 1 and given.get("session"):
        raise ValueError("a level that was handed on has no session: that would tie the whole hold to its connection")
    if outer is not None and lease is None:
        lease = outer.seconds
    if token is not None:
        given["token"] = token
    if given.get("owner") is None:
        given["owner"] = worker
    given["lease"], given["level"] = LEASE if lease is None else lease, 1 if level is None else level
    options = Options(names=names, limit=0 if shared else limit or 1, **given)
    if outer is None:
        return options
    hold = outer.of_hold
    return replace(
        options, names=hold.names, token=outer.token, level=outer.level + 1, session=hold.session, delay=hold.delay,
        replicas=hold.replicas, at_least=0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """Send this. With `replicas` WAIT comes behind it on the same connection, and the reply is both replies."""

    words: Words
    replicas: int = 0


@dataclass(frozen=True)
class AskInTurn:
    """Send this LOCK.ACQUIRE, and do not come back with a ticket before it may have been called, or `wait` is over."""

    words: Words
    wait: Optional[float]


@dataclass(frozen=True)
class AskAll:
    """Send this to several servers at once: all, or those with these numbers. The reply has that of each, or its error."""

    words: Words
    only: Optional[tuple[int, ...]] = None


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Grant:
    fence: int
    ends: float  # by our own clock


Step = Union[Ask, AskInTurn, AskAll, Pause]
Steps = Generator[Step, Any, T]


def acquiring(options: Options) -> Steps[Optional[Grant]]:
    """None when the lock was not available in time. What is raised, or cancels it, has to be followed by `releasing`."""
    began = now()
    deadline = float("inf") if options.wait is None else began + options.wait
    left_something = False
    while True:
        sent = now()
        left = deadline - sent
        try:
            if left > 0 and options.level == 1:
                left_something = True
                words = options.acquire(*(() if options.session else ("QUEUE", ms(QUEUE))))
                reply = yield AskInTurn(words, None if options.wait is None else left)
            else:
                reply = yield Ask(options.acquire())
            if isinstance(reply, list):
                grant = yield from _confirmed(options, int(reply[1]), sent)
                if grant is not None:
                    return grant
                if options.several:
                    # Some of them may be held still.
                    yield from releasing(options)
                continue
        except RedisError as error:
            if options.session and options.level > 1:
                raise LockLostError("The session has ended with its connection.", lock_name=options.name) from error
            if not passes(error) or now() >= max(deadline, began + PATIENCE):
                reraise(error, options.name)
            left_something = True
            yield Pause(PAUSE)
            continue
        if reply is None and options.level > 1:
            raise LockLostError("The outer level does not hold the lock any more.", lock_name=options.name)
        if reply is None or now() >= deadline:
            if left_something:
                yield from releasing(options)
            return None


def _confirmed(options: Options, fence: int, sent: float) -> Steps[Optional[Grant]]:
    """Extends at once a grant whose lease may have begun long ago by our clock, or that replicas are to confirm."""
    if options.replicas == 0 and now() - sent < options.lease / 10:
        return Grant(fence, sent + options.lease)
    if options.session and options.replicas == 0:
        # The server itself extends it, and so no less than the lease is left.
        return Grant(fence, now() + options.lease)
    ends = yield from extending(options, options.lease, now() + options.lease, patient=False)
    return None if ends is None else Grant(fence, ends)


def extending(options: Options, lease: float, until: float, patient: bool = True) -> Steps[Optional[float]]:
    """When the lease ends by our clock, or None when the token does not hold the lock. Raises what came last, once it is
    too late to try again."""
    words = options.renewing(lease)
    while True:
        sent = now()
        try:
            reply = yield Ask(words, options.replicas)
            if options.replicas:
                reply, confirmed = reply
                if options.is_of_all(reply) and confirmed < options.replicas:
                    raise TooFewReplicasError(
                        f"{confirmed} of {options.replicas} replicas have confirmed it in time.", lock_name=options.name
                    )
            return sent + lease if options.is_of_all(reply) else None
        except RedisError as error:
            if code_of(error) == "WRONGTYPE":
                return None
            # A session ends with its connection, and the library would go on by another one.
            lost = not patient or options.session or now() + PAUSE >= until
            if lost or not (passes(error) or isinstance(error, TooFewReplicasError)):
                reraise(error, options.name)
        yield Pause(min(PAUSE, lease / 10))


def releasing(options: Options, keep_until: float = 0.0) -> Steps[Optional[bool]]:
    """Whether the token held the lock until now, or None when that is not known. With `keep_until` the lease ends then,
    and not at once."""
    # By then the lease, or the place in the queue, has ended anyway.
    until = now() + max(QUEUE, options.lease)
    if options.several and options.level > 1:
        return (yield from _releasing_each(options, until))
    return (yield from _releasing(options, keep_until, until))


def _releasing_each(options: Options, until: float) -> Steps[Optional[bool]]:
    done = []
    for each in options.parted():
        done.append((yield from _releasing(each, 0.0, until)))
    return False if False in done else None if None in done else True


def _releasing(options: Options, keep_until: float, until: float) -> Steps[Optional[bool]]:
    asked_before = False
    while True:
        rest = keep_until - now()
        try:
            reply = yield Ask(options.extend(rest) if rest > 0 else options.release())
        except RedisError as error:
            if code_of(error) == "WRONGTYPE":
                if options.several:
                    # Nothing was released where one of them is something else now.
                    yield from _releasing_each(options, until)
                return False
            if not passes(error) or now() >= until:
                return None
            # An error of the server says that nothing was done.
            asked_before = asked_before or not isinstance(error, ResponseError)
            yield Pause(PAUSE)
        else:
            # After a lost reply 0 says nothing: the first request may have released it.
            return True if options.is_of_all(reply) else None if asked_before else False
