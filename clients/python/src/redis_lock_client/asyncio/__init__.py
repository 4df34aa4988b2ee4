"""The same for asyncio."""

from .client import LockClient
from .held import HeldLock

__all__ = ["HeldLock", "LockClient"]
