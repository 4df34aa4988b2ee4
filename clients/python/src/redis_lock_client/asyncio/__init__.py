"""The same for asyncio."""

from .client import LockClient
from .held import HeldLock
from .redlock import Redlock

__all__ = ["HeldLock", "LockClient", "Redlock"]
