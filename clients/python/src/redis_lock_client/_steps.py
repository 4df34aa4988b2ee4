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
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, Optional, TypeVar, Union

from redis.exceptions import RedisError, ResponseError

from .errors import LockLostError, TooFewReplicasError, code_of, passes, reraise

# All in seconds.
LEASE = 30.0  # of who names none
PAUSE = 0.1  # between a request that failed and the next one
REPEAT = 2.0  # between requests of one who waits: less than lock.claim-lease, with room for a slow reply
QUEUE = 15.0  # how long the place is kept: longer than it takes to come back after a broken connection
SOON = 0.05  # the first such repeat of one who waits without a connection
PATIENCE = 2.0  # how long an acquire that does not wait tries again what passes
TIMEOUT = 5.0  # of a socket that has none: no request may hang for ever

Words = tuple[Union[str, bytes, int], ...]
T = TypeVar("T")

now = time.monotonic


def ms(seconds: float) -> int:
    """At least 1, since `BLOCK 0` waits without end."""
    return max(1, round(seconds * 1000))


def this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    name: str
    lease: float = LEASE
    wait: Optional[float] = None
    limit: int = 1  # 0: shared
    owner: Optional[str] = None
    level: int = 1
    session: bool = False
    replicas: int = 0
    at_least: float = 0.0
    renew: bool = True
    # Made before anything is sent, so that a request whose reply was lost can be sent again.
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if self.lease <= 0 or self.at_least < 0 or (self.wait or 0) < 0:
            raise ValueError("lease, wait and at_least are seconds, and not negative")
        if self.session and self.at_least:
            raise ValueError("a session ends with its connection, so it cannot have at_least")

    def acquire(self, *more: Union[str, int]) -> Words:
        words: list[Union[str, bytes, int]] = ["LOCK.ACQUIRE", self.name, "PX", ms(self.lease), "TOKEN", self.token]
        if self.level > 1:
            # Label and limit stay those of the outer level.
            words += ["LEVEL", self.level]
        else:
            words += ["OWNER", this_process() if self.owner is None else self.owner]
            words += ["LIMIT", self.limit] if self.limit else ["SHARED"]
        return (*words, *(["SESSION"] if self.session else []), *more)

    def extend(self, lease: float) -> Words:
        return ("LOCK.EXTEND", self.name, self.token, "PX", ms(lease))

    def release(self) -> Words:
        level = ("LEVEL", self.level) if self.level > 1 else ()
        return ("LOCK.RELEASE", self.name, self.token, *level)


def options_of(*, shared: bool, limit: Optional[int], token: Optional[str], **how: Any) -> Options:
    """As the caller says it."""
    if shared and limit is not None:
        raise ValueError("shared and limit exclude each other")
    if how["level"] > 1 and token is None:
        raise ValueError("a level above 1 needs the token that it was handed")
    if token is not None:
        how["token"] = token
    return Options(limit=0 if shared else limit or 1, **how)


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
                continue
        except RedisError as error:
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
    # An inner level must not make the lease shorter, and LOCK.ACQUIRE with LEVEL does not.
    words = replace(options, lease=lease).acquire() if options.level > 1 else options.extend(lease)
    while True:
        sent = now()
        try:
            reply = yield Ask(words, options.replicas)
            if options.replicas:
                reply, confirmed = reply
                if reply and confirmed < options.replicas:
                    raise TooFewReplicasError(
                        f"{confirmed} of {options.replicas} replicas have confirmed it in time.", lock_name=options.name
                    )
            return sent + lease if reply else None
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
    asked_before = False
    while True:
        rest = keep_until - now()
        try:
            reply = yield Ask(options.extend(rest) if rest > 0 else options.release())
        except RedisError as error:
            if code_of(error) == "WRONGTYPE":
                return False
            if not passes(error) or now() >= until:
                return None
            # An error of the server says that nothing was done.
            asked_before = asked_before or not isinstance(error, ResponseError)
            yield Pause(PAUSE)
        else:
            # After a lost reply 0 says nothing: the first request may have released it.
            return True if reply else None if asked_before else False
