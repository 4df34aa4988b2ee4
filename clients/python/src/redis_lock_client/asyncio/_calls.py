"""Hears whose turn it is: the messages of one server, for all who wait there.

A message only makes prompt what repeating makes right. So whatever goes wrong here ends in somebody asking once more.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Optional

import redis.asyncio as redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from .._steps import PAUSE, REPEAT, now
from ._tasks import keep, stop

# How long a ticket is remembered that was called before the reply that names it, and a subscription that nobody uses.
KEPT = 5.0


class Calls:
    def __init__(self, server: redis.Redis) -> None:
        self._pubsub = server.pubsub()
        self._reader: Optional[asyncio.Future[None]] = None
        self._subscribed: dict[str, asyncio.Future[bool]] = {}
        self._users: Counter[str] = Counter()
        self._waiting: dict[tuple[str, int], asyncio.Future[None]] = {}
        self._early: dict[tuple[str, int], float] = {}

    async def subscribe(self, name: str) -> bool:
        """Whether this is new, so that a call may have been missed."""
        if name in self._subscribed:
            return False
        confirmed = self._subscribed[name] = asyncio.get_running_loop().create_future()
        self._forget_later(name)
        try:
            await self._pubsub.ssubscribe(name)
        except (RedisError, OSError):
            return False
        if self._reader is None or self._reader.done():
            self._reader = keep(self._read())
        await asyncio.wait({confirmed}, timeout=REPEAT)
        return confirmed.done() and confirmed.result()

    async def wait(self, name: str, ticket: int, seconds: float) -> None:
        """Until it is called, or a call may have been missed, or the time is over."""
        if self._early.pop((name, ticket), None) is not None:
            return
        called = self._waiting.setdefault((name, ticket), asyncio.get_running_loop().create_future())
        self._users[name] += 1
        try:
            # At random, or many would come to ask in step.
            await asyncio.wait({called}, timeout=random.uniform(seconds / 2, seconds))
        finally:
            self._waiting.pop((name, ticket), None)
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                self._forget_later(name)

    async def close(self) -> None:
        if self._reader is not None:
            await stop(self._reader)
        await self._pubsub.aclose()

    def _forget_later(self, name: str) -> None:
        asyncio.get_running_loop().call_later(KEPT, self._forget, name)

    def _forget(self, name: str) -> None:
        if name not in self._users and name in self._subscribed:
            del self._subscribed[name]
            keep(self._unsubscribe(name))

    async def _unsubscribe(self, name: str) -> None:
        try:
            await self._pubsub.sunsubscribe(name)
        except (RedisError, OSError):
            pass

    async def _read(self) -> None:
        while True:
            try:
                message = await self._pubsub.get_message(timeout=1.0)
            except (ConnectionError, TimeoutError, OSError):
                # The next try connects, and subscribes again.
                await asyncio.sleep(PAUSE)
                continue
            except RedisError:
                # This user may not subscribe. It goes by repeats alone.
                for each in self._subscribed.values():
                    if not each.done():
                        each.set_result(False)
                continue
            if message is not None:
                self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        name = message["channel"].decode()
        if message["type"] == "smessage":
            self._call(name, int(message["data"]))
            return
        if message["type"] == "ssubscribe":
            confirmed = self._subscribed.get(name)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(True)
        elif name in self._subscribed:
            # The slot has moved to another node.
            del self._subscribed[name]
        for key, called in self._waiting.items():
            if key[0] == name and not called.done():
                called.set_result(None)

    def _call(self, name: str, ticket: int) -> None:
        called = self._waiting.get((name, ticket))
        if called is None:
            self._early[name, ticket] = now()
            for key in [key for key, at in self._early.items() if at < now() - KEPT]:
                del self._early[key]
        elif not called.done():
            called.set_result(None)
