"""Performs steps at the server, with asyncio: connections, redirections, and how one waits.

Nobody waits on a connection here, but for sessions. A task that waits has a place in the queue by QUEUE, and is called by
a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any, Optional, TypeVar, Union

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError, ConnectionError, MovedError, RedisClusterException, RedisError, ResponseError,
)  # fmt: skip

from .._routes import Slots, asked_at, check_slots, closed_by_peer, settings_of
from .._steps import (
    REDIRECTIONS, REPEAT, TIMEOUT, Ask, AskInTurn, Grant, Options, Pause, Step, Steps, Words, acquiring, extending,
    first_key, ms, releasing,
)  # fmt: skip
from ..errors import LockError, not_of_master
from ._calls import Calls
from ._tasks import keep, stop, to_its_end

T = TypeVar("T")
AnyRedis = Union[redis.Redis, redis.RedisCluster]

class Performer:
    """Performs steps, each as `ask` and `ask_in_turn` say."""

    async def perform(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self._do(step)
                except RedisError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def acquire(self, options: Options) -> Optional[Grant]:
        return await self.perform(acquiring(options))

    async def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        return await self.perform(extending(options, lease, until))

    async def release(self, options: Options, keep_until: float = 0.0) -> Optional[bool]:
        return await self.perform(releasing(options, keep_until))

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, AskInTurn):
            return await self.ask_in_turn(step.words, step.wait)
        assert isinstance(step, Ask)
        return await self.ask(step.words, step.replicas)

    async def guard(self, words: Words) -> Any:
        """Sends it once, but for redirections: it may have run where no reply comes."""
        for _ in range(REDIRECTIONS):
            with contextlib.suppress(MovedError):
                return await self.ask(words, 0)
            # The node that is named there is known now.
        return await self.ask(words, 0)

    async def ask(self, words: Words, replicas: int) -> Any:
        raise NotImplementedError

    async def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        raise NotImplementedError


class Server(Performer):
    """One server, the master that Sentinels name, or the node of a cluster that has the lock."""

    def __init__(self, client: AnyRedis, **settings: Any) -> None:
        self._cluster = client if isinstance(client, redis.RedisCluster) else None
        self._single = None if isinstance(client, redis.RedisCluster) else like(client, **settings)
        self._nodes, self._slots = dict[tuple[str, int], redis.Redis](), Slots()
        self._is_closed = False
        self._calls = dict[redis.Redis, Calls]()

    def for_hold(self, options: Options) -> Union[Server, Session]:
        """What is asked for this hold."""
        if self._cluster is not None:
            check_slots(options)
        return Session(self, options) if options.session else self

    def hung_up(self) -> bool:
        return False

    async def end(self) -> None:
        """A hold has ended, of which there is nothing here to close: see Session."""

    async def close(self) -> None:
        self._is_closed = True
        for calls in self._calls.values():
            await calls.close()
        for each in (self._single, *self._nodes.values()):
            if each is not None:
                await each.connection_pool.disconnect()

    async def ask(self, words: Words, replicas: int = 0) -> Any:
        # What the server reads after LOCK.RELEASE would take the lock again: so a request that is cancelled is waited
        # for, which does not take long, as it does not block.
        return await to_its_end(self._ask(words, replicas))

    async def _ask(self, words: Words, replicas: int) -> Any:
        name = first_key(words)
        try:
            return await send(await self.node(name), words, replicas)
        except RedisError as error:
            at = asked_at(error)
            if at is not None:
                return await send(await self.node_at(*at), words, replicas, asking=True)
            await self.learn(name, error)
            raise

    async def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        reply = await self.ask(words)
        if isinstance(reply, int):
            name = first_key(words)
            node = await self.node(name)
            calls = self._calls.get(node) or self._calls.setdefault(node, Calls(node))
            # Who has just subscribed asks again at once: the message is sent once, and may have been sent before.
            if not await calls.subscribe(name):
                await calls.wait(name, reply, REPEAT if wait is None else min(wait, REPEAT))
        return reply

    def check_open(self) -> None:
        """What is raised here is not repeated."""
        if self._is_closed:
            raise LockError("The client was closed.")

    async def node(self, name: str) -> redis.Redis:
        self.check_open()
        if self._single is not None:
            return self._single
        return await self.node_at(*(self._slots.owner(name) or await self._ask_library(name)))

    async def _ask_library(self, name: str) -> tuple[str, int]:
        assert self._cluster is not None
        try:
            await self._cluster.initialize()
            node = self._cluster.get_node_from_key(name)
        except (RedisClusterException, KeyError) as error:
            raise ConnectionError(f"No node has the slot: {error}") from error
        if node is None:
            raise ConnectionError("No node has the slot.")
        return node.host, int(node.port)

    async def node_at(self, host: str, port: int) -> redis.Redis:
        assert self._cluster is not None
        if (host, port) not in self._nodes:
            await self._cluster.initialize()
            node = self._cluster.get_default_node()
            settings = settings_of(node.connection_kwargs, Retry(NoBackoff(), 0)) | {"host": host, "port": port}
            pool = redis.ConnectionPool(connection_class=node.connection_class, **settings)
            self._nodes.setdefault((host, port), redis.Redis(connection_pool=pool))
        return self._nodes[host, port]

    async def learn(self, name: str, error: RedisError) -> None:
        """What an error says of the node that has the lock."""
        if self._cluster is None:
            if self._single is not None and not_of_master(error):
                await self._single.connection_pool.disconnect(inuse_connections=False)
            return
        if isinstance(error, MovedError):
            self._slots.moved(name, error)
        elif not isinstance(error, ResponseError) or isinstance(error, ClusterDownError):
            self._slots.forget(name)
            with contextlib.suppress(RedisError, RedisClusterException):
                await self._cluster.nodes_manager.initialize()


class Session(Performer):
    """A connection of its own for one hold, which ends with it. What releases the hold, or is guarded by it, goes by another
    one."""

    def __init__(self, server: Server, options: Options) -> None:
        self._server, self._name = server, options.name
        self._own: Optional[redis.Redis] = None
        # Where the slot of the lock is on its way to, if a node has said so: the connection is one to there.
        self._importing: Optional[tuple[str, int]] = None

    async def ask(self, words: Words, replicas: int) -> Any:
        if words[0] in ("LOCK.RELEASE", "LOCK.MRELEASE", "LOCK.GUARD"):
            return await self._server.ask(words)
        return await self._ask(words, replicas)

    async def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        words = (*words, "BLOCK", 0 if wait is None else ms(wait))
        # No other reply may take as long.
        return await self._ask(words, timeout=math.inf if wait is None else wait + TIMEOUT)

    async def _ask(self, words: Words, replicas: int = 0, **reading: Any) -> Any:
        request: Optional[asyncio.Future[Any]] = None
        try:
            self._server.check_open()
            if self._own is None:
                at = self._importing
                self._own = like(await (self._server.node_at(*at) if at else self._server.node(self._name)), single=True)
            request = keep(send_by(self._own, words, replicas, asking=self._importing is not None, **reading))
            return await asyncio.shield(request)
        except BaseException as error:
            # By the next connection the hold would not be tied to anything.
            await self.end()
            if isinstance(error, RedisError):
                self._importing = asked_at(error)
                await self._server.learn(self._name, error)
            elif request is not None:
                await stop(request)
            raise

    def hung_up(self) -> bool:
        own = self._own
        writer = getattr(own.connection, "_writer", None) if own is not None else None
        return writer is None or closed_by_peer(writer.get_extra_info("socket"))

    async def end(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            if own.connection is not None:
                # Also where a request is under way.
                await own.connection.disconnect(nowait=True)
            await own.aclose(close_connection_pool=True)


def like(client: redis.Redis, *, single: bool = False, **other: Any) -> redis.Redis:
    """A client with the same settings, connections of its own, and those settings that are given."""
    pool = client.connection_pool
    settings = {**settings_of(pool.connection_kwargs, Retry(NoBackoff(), 0)), **other}
    settings["connection_class"] = pool.connection_class
    if isinstance(pool, SentinelConnectionPool):
        ours: redis.ConnectionPool = SentinelConnectionPool(pool.service_name, pool.sentinel_manager, **settings)
    else:
        ours = redis.ConnectionPool(**settings)
    return redis.Redis(connection_pool=ours, single_connection_client=single)


def wait_for(replicas: int, client: redis.Redis) -> Words:
    timeout = float(client.connection_pool.connection_kwargs["socket_timeout"] or TIMEOUT)
    return ("WAIT", replicas, ms(min(1.0, timeout / 2)))


async def send_by(own: redis.Redis, words: Words, replicas: int, asking: bool, **reading: Any) -> Any:
    """As `send`, by the one connection of a client, which a pipeline would not use. `timeout`: how long the reply may
    take."""
    await own.initialize()
    connection: Any = own.connection

    async def reply(*words: Union[str, bytes, int], **reading: Any) -> Any:
        await connection.send_command(*words)
        return await connection.read_response(**reading)

    if asking:
        await reply("ASKING")
    replies = [await reply(*words, **reading)]
    return [*replies, await reply(*wait_for(replicas, own))] if replicas else replies[0]


async def send(client: redis.Redis, words: Words, replicas: int = 0, asking: bool = False) -> Any:
    """The reply; with `replicas` a pair, of the reply and of how many have what was written so far."""
    if not replicas and not asking:
        return await client.execute_command(*words)
    async with client.pipeline(transaction=False) as pipe:
        if asking:
            pipe.execute_command("ASKING")
        pipe.execute_command(*words)
        if replicas:
            pipe.execute_command(*wait_for(replicas, client))
        replies = (await pipe.execute(raise_on_error=False))[asking:]
    for each in replies:
        if isinstance(each, Exception):
            raise each
    return replies if replicas else replies[0]
