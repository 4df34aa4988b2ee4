"""The Redlock algorithm, as steps: see https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/

One token, asked of all servers at once. It is held when a majority has granted it while something is left of the lease,
less what the clocks of the servers may differ by. What was granted by fewer is given back at once, and asked for again
after a time at random, or those who contend would do so in step and split the servers again. There is no queue: who waits
in several could wait for ever for one who waits there too.
"""

from __future__ import annotations

import random
from typing import Optional

from redis.exceptions import RedisError, ResponseError

from ._steps import PATIENCE, PAUSE, AskAll, Grant, Options, Pause, Steps, now
from .errors import LockLostError, code_of, passes, reraise

RETRY = 0.2  # seconds, at most, between two tries
TRIES = 3  # to release at a server whose reply was lost; what is held there otherwise ends with its lease


def drift(lease: float) -> float:
    """By how much a lease may end sooner at a server than here: 1 % for the clocks, 2 ms for their resolution."""
    return lease * 0.01 + 0.002


def check(options: Options) -> None:
    if options.session or options.replicas:
        raise ValueError("with several servers there are neither sessions nor replicas")
    if options.several:
        raise ValueError("with several servers there is one lock at a time: no queue keeps order among several")


def no_guard() -> ValueError:
    return ValueError("with several servers nothing is guarded: none of them knows whether the lock is held of a majority")


def acquiring(options: Options, servers: int) -> Steps[Optional[Grant]]:
    began = now()
    deadline = float("inf") if options.wait is None else began + options.wait
    quorum = servers // 2 + 1
    # So many may not grant it, and it can be had of the others.
    spare = servers - quorum
    while True:
        sent = now()
        replies = yield AskAll(options.acquire())
        granted = [int(reply[1]) for reply in replies if isinstance(reply, list)]
        ends = sent + options.lease - drift(options.lease)
        if len(granted) >= quorum and now() < ends:
            return Grant(max(granted), ends)
        yield from releasing(options, servers)
        errors = [reply for reply in replies if isinstance(reply, RedisError)]
        lasting = [error for error in errors if not passes(error)]
        if len(lasting) > spare:
            reraise(lasting[0], options.name)
        if options.level > 1 and replies.count(None) > spare:
            raise LockLostError("The outer level does not hold the lock any more.", lock_name=options.name)
        # A majority may hold it, of which too few have said so: then it is asked for once more, for some time at least.
        unknown = len(errors) > spare or options.level > 1
        if now() >= (max(deadline, began + PATIENCE) if unknown else deadline):
            if errors and unknown:
                reraise(errors[0], options.name)
            return None
        pause = random.uniform(RETRY / 4, RETRY)
        yield Pause(pause if unknown else min(deadline - now(), pause))


def extending(options: Options, lease: float, until: float, servers: int) -> Steps[Optional[float]]:
    quorum = servers // 2 + 1
    while True:
        sent = now()
        replies = yield AskAll(options.renewing(lease))
        yes = sum(bool(reply) and not isinstance(reply, Exception) for reply in replies)
        errors = [reply for reply in replies if isinstance(reply, Exception) and code_of(reply) != "WRONGTYPE"]
        if yes >= quorum:
            return sent + lease - drift(lease)
        if yes + len(errors) < quorum:
            return None
        if now() + PAUSE >= until:
            raise errors[-1]
        yield Pause(min(PAUSE, lease / 10))


def releasing(options: Options, servers: int, keep_until: float = 0.0) -> Steps[Optional[bool]]:
    yes, left, unknown = 0, tuple(range(servers)), set[int]()
    for _ in range(TRIES):
        rest = keep_until - now()
        replies = yield AskAll(options.extend(rest) if rest > 0 else options.release(), left)
        for each, reply in zip(left, replies):
            if reply == 1:
                yes += 1
                unknown.discard(each)
            elif isinstance(reply, Exception) and not isinstance(reply, ResponseError):
                # Whatever it says after this, it may have released it now.
                unknown.add(each)
        left = tuple(each for each, reply in zip(left, replies) if isinstance(reply, Exception) and passes(reply))
        if not left:
            break
    quorum = servers // 2 + 1
    return True if yes >= quorum else None if yes + len(unknown.union(left)) >= quorum else False
