"""Locks of several independent servers, for asyncio."""

from __future__ import annotations

from collections.abc import Sequence

import redis.asyncio as redis

from ._majority import Majority
from .client import LockClient


class Redlock(LockClient):
    """The same over several independent servers: see redis_lock_client.Redlock, and first of all when not to use it."""

    def __init__(self, clients: Sequence[redis.Redis], *, timeout: float = 0.3) -> None:
        self._begin(Majority(clients, timeout))
