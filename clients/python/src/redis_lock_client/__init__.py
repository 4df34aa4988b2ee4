"""Locks of redis-lock, on redis-py. `redis_lock_client.asyncio` has the same for asyncio."""

from .client import LockClient
from .errors import (
    DeadlockError,
    LockError,
    LockLostError,
    NotAcquiredError,
    NotPermittedError,
    QueueFullError,
    TooFewReplicasError,
    WrongTypeError,
)
from .held import HeldLock
from .redlock import Redlock

__all__ = [
    "DeadlockError",
    "HeldLock",
    "LockClient",
    "LockError",
    "LockLostError",
    "NotAcquiredError",
    "NotPermittedError",
    "QueueFullError",
    "Redlock",
    "TooFewReplicasError",
    "WrongTypeError",
]
