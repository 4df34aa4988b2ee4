"""Locks of several independent servers, for threads."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from ._majority import Majority
from .client import LockClient


class Redlock(LockClient):
    """The same over several independent servers, by the Redlock algorithm: held is what a majority has granted.

    One server with a replica, `replicas=1` and fences is the better choice for almost everybody: it has a queue, its
    fences rise, and it is one thing to run instead of five. Redlock is for who must go on locking while a server is down,
    without waiting for a failover, and whose work does no harm if two do it once in a long while. It rests on clocks that
    run alike and on servers that forget nothing: give them `appendfsync always`, or files and a `lock.restart-grace` as
    long as the longest lease. The fence is the largest of those granted, and rises only as far as the wall clocks of the
    servers agree. Nobody has a place in a queue here. `timeout` is how many seconds a server that does not answer holds up
    each request.
    """

    def __init__(self, clients: Sequence[redis.Redis], *, timeout: float = 0.3) -> None:
        self._begin(Majority(clients, timeout))
