"""Locks of redis-lock behind the interface of redis-py's own: `redis.lock("name", lock_class=Lock)`.

For code that uses that interface already. What it adds without a change there: places in a queue, first come first served,
leases that no clock ends early, repeats that do no harm, and `fence`. What it leaves as it is: there is no renewal, and who
waits asks every `sleep` seconds, which have to be less than lock.claim-lease.

A string of that name counts as a lock that somebody else holds, so old and new code exclude each other while one takes the
place of the other.
"""

from __future__ import annotations

import secrets
from typing import Any, Literal, Optional, Union

from redis.asyncio.lock import Lock as RedisAsyncLock
from redis.exceptions import LockNotOwnedError, RedisError, ResponseError
from redis.lock import Lock as RedisLock

from ._steps import QUEUE, Words, ms
from .asyncio._tasks import uncancelled
from .errors import code_of

# Of a lock without a timeout: the longest that lock.max-lease allows by default.
LONGEST = 86400.0

Number = Union[int, float]


def _acquire(name: Any, token: Any, timeout: Optional[Number], queue: float) -> Words:
    words = ("LOCK.ACQUIRE", name, "PX", ms(timeout or LONGEST), "TOKEN", token)
    return (*words, "QUEUE", ms(queue)) if queue else words


def _not_owned(name: Any, what: str) -> LockNotOwnedError:
    return LockNotOwnedError(f"Cannot {what} a lock that's no longer owned", lock_name=name)


def _is_string(error: ResponseError) -> bool:
    return code_of(error) == "WRONGTYPE"


class Lock(RedisLock):
    """Of redis.Redis and redis.RedisCluster."""

    @property
    def fence(self) -> Optional[int]:
        """The fence of this thread's hold."""
        return getattr(self.local, "fence", None)

    def register_scripts(self) -> None:
        """It needs none."""

    def acquire(
        self,
        sleep: Optional[Number] = None,
        blocking: Optional[bool] = None,
        blocking_timeout: Optional[Number] = None,
        token: Optional[str] = None,
    ) -> bool:
        token = secrets.token_hex(16) if token is None else token
        waits = self.blocking if blocking is None else blocking
        self.local.queue = max(QUEUE, 3 * (self.sleep if sleep is None else sleep)) if waits else 0.0
        acquired = False
        try:
            acquired = bool(super().acquire(sleep, blocking, blocking_timeout, token))
            return acquired
        finally:
            if not acquired:
                self._give_up(token)

    def _give_up(self, token: Any) -> None:
        try:
            self.redis.execute_command("LOCK.RELEASE", self.name, token)
        except RedisError:
            # A place ends by itself.
            pass

    def do_acquire(self, token: Any) -> bool:
        try:
            reply = self.redis.execute_command(*_acquire(self.name, token, self.timeout, self.local.queue))
        except ResponseError as error:
            if _is_string(error):
                return False
            raise
        self.local.fence = reply[1] if isinstance(reply, list) else None
        return isinstance(reply, list)

    def locked(self) -> bool:
        return bool(self.redis.exists(self.name))

    def owned(self) -> bool:
        return self._remaining() is not None

    def _remaining(self) -> Optional[int]:
        """Milliseconds, or None when this does not hold it."""
        if self.local.token is None:
            return None
        reply = self._ask("LOCK.CHECK", self.name, self.local.token)
        return int(reply[1]) if reply else None

    def _ask(self, *words: Any) -> Any:
        try:
            return self.redis.execute_command(*words)
        except ResponseError as error:
            if _is_string(error):
                return None
            raise

    def do_release(self, expected_token: Any) -> None:
        if not self._ask("LOCK.RELEASE", self.name, expected_token):
            raise _not_owned(self.name, "release")

    def do_extend(self, additional_time: Number, replace_ttl: bool) -> Literal[True]:
        remaining = 0 if replace_ttl else self._remaining()
        if remaining is None or not self._extend(additional_time + remaining / 1000):
            raise _not_owned(self.name, "extend")
        return True

    def do_reacquire(self) -> Literal[True]:
        if not self._extend(self.timeout or LONGEST):
            raise _not_owned(self.name, "reacquire")
        return True

    def _extend(self, lease: Number) -> bool:
        return bool(self._ask("LOCK.EXTEND", self.name, self.local.token, "PX", ms(lease)))


class AsyncLock(RedisAsyncLock):
    """Of redis.asyncio.Redis and redis.asyncio.RedisCluster."""

    @property
    def fence(self) -> Optional[int]:
        """The fence of this hold."""
        return getattr(self.local, "fence", None)

    def register_scripts(self) -> None:
        """It needs none."""

    async def acquire(
        self,
        blocking: Optional[bool] = None,
        blocking_timeout: Optional[Number] = None,
        token: Optional[Union[str, bytes]] = None,
    ) -> bool:
        token = secrets.token_hex(16) if token is None else token
        waits = self.blocking if blocking is None else blocking
        self.local.queue = max(QUEUE, 3 * self.sleep) if waits else 0.0
        acquired = False
        try:
            acquired = bool(await super().acquire(blocking, blocking_timeout, token))
            return acquired
        finally:
            if not acquired:
                await uncancelled(self._give_up(token))

    async def _give_up(self, token: Any) -> None:
        try:
            await self.redis.execute_command("LOCK.RELEASE", self.name, token)
        except RedisError:
            # A place ends by itself.
            pass

    async def do_acquire(self, token: Any) -> bool:
        try:
            reply = await self.redis.execute_command(*_acquire(self.name, token, self.timeout, self.local.queue))
        except ResponseError as error:
            if _is_string(error):
                return False
            raise
        self.local.fence = reply[1] if isinstance(reply, list) else None
        return isinstance(reply, list)

    async def locked(self) -> bool:
        return bool(await self.redis.exists(self.name))

    async def owned(self) -> bool:
        return await self._remaining() is not None

    async def _remaining(self) -> Optional[int]:
        """Milliseconds, or None when this does not hold it."""
        if self.local.token is None:
            return None
        reply = await self._ask("LOCK.CHECK", self.name, self.local.token)
        return int(reply[1]) if reply else None

    async def _ask(self, *words: Any) -> Any:
        try:
            return await self.redis.execute_command(*words)
        except ResponseError as error:
            if _is_string(error):
                return None
            raise

    async def do_release(self, expected_token: Any) -> None:
        if not await self._ask("LOCK.RELEASE", self.name, expected_token):
            raise _not_owned(self.name, "release")

    async def do_extend(self, additional_time: Number, replace_ttl: bool) -> Literal[True]:
        remaining = 0 if replace_ttl else await self._remaining()
        if remaining is None or not await self._extend(additional_time + remaining / 1000):
            raise _not_owned(self.name, "extend")
        return True

    async def do_reacquire(self) -> Literal[True]:
        if not await self._extend(self.timeout or LONGEST):
            raise _not_owned(self.name, "reacquire")
        return True

    async def _extend(self, lease: Number) -> bool:
        return bool(await self._ask("LOCK.EXTEND", self.name, self.local.token, "PX", ms(lease)))
