"""Performs steps at the server, with threads: connections, redirections, and how one waits."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any, Optional, TypeVar, Union

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError, ConnectionError, MovedError, RedisClusterException, RedisError, ResponseError,
)  # fmt: skip
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

from ._leave import Leave
from ._routes import Slots, asked_at, check_slots, closed_by_peer, settings_of
from ._steps import (
    PAUSE, REDIRECTIONS, REPEAT, SOON, TIMEOUT, Ask, AskInTurn, Grant, Options, Pause, Step, Steps, Words, acquiring, extending,
    first_key, ms, now, releasing,
)  # fmt: skip
from .errors import LockError, not_of_master

T = TypeVar("T")
AnyRedis = Union[redis.Redis, redis.RedisCluster]


class Performer:
    """Performs steps, each as `ask` and `ask_in_turn` say."""

    def perform(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    reply = self._do(step)
                except RedisError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def acquire(self, options: Options) -> Optional[Grant]:
        return self.perform(acquiring(options))

    def extend(self, options: Options, lease: float, until: float) -> Optional[float]:
        return self.perform(extending(options, lease, until))

    def release(self, options: Options, keep_until: float = 0.0) -> Optional[bool]:
        return self.perform(releasing(options, keep_until))

    def _do(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, AskInTurn):
            return self.ask_in_turn(step.words, step.wait)
        assert isinstance(step, Ask)
        return self.ask(step.words, step.replicas)

    def guard(self, words: Words) -> Any:
        """Sends it once, but for redirections: it may have run where no reply comes."""
        for _ in range(REDIRECTIONS):
            with contextlib.suppress(MovedError):
                return self.ask(words, 0)
            # The node that is named there is known now.
        return self.ask(words, 0)

    def ask(self, words: Words, replicas: int) -> Any:
        raise NotImplementedError

    def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        raise NotImplementedError


class Server(Performer):
    """One server, the master that Sentinels name, or the node of a cluster that has the lock."""

    def __init__(self, client: AnyRedis, blocked: int, **settings: Any) -> None:
        self._cluster = client if isinstance(client, redis.RedisCluster) else None
        self._single = None if isinstance(client, redis.RedisCluster) else like(client, **settings)
        self._nodes, self._slots = dict[tuple[str, int], redis.Redis](), Slots()
        self._is_closed = False
        self._leave = Leave(blocked)

    def for_hold(self, options: Options) -> Union[Server, Session]:
        """What is asked for this hold."""
        if self._cluster is not None:
            check_slots(options)
        return Session(self, options) if options.session else self

    def hung_up(self) -> bool:
        return False

    def end(self) -> None:
        """A hold has ended, of which there is nothing here to close: see Session."""

    def close(self) -> None:
        self._is_closed = True
        for each in (self._single, *self._nodes.values()):
            if each is not None:
                each.connection_pool.disconnect()

    def ask(self, words: Words, replicas: int = 0) -> Any:
        name = first_key(words)
        try:
            return send(self.node(name), words, replicas)
        except RedisError as error:
            at = asked_at(error)
            if at is not None:
                return send(self.node_at(*at), words, replicas, asking=True)
            self.learn(name, error)
            raise

    def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        until = float("inf") if wait is None else now() + wait
        if self._leave.take_now():
            return self._ask_blocking(words, until)
        # Who keeps a place waits on a connection as soon as one is free: whose turn comes must not have to be called first.
        # Until then it asks again: soon at first, since its turn may come before the turns of those who are blocked, and at
        # random, or many would come to ask in step.
        repeat = SOON
        while True:
            reply = self.ask(words)
            if not isinstance(reply, int):
                return reply
            if self._leave.take(reply, min(until - now(), random.uniform(repeat / 2, repeat))):
                return self._ask_blocking(words, until)
            if repeat >= REPEAT or now() >= until:
                return reply
            repeat = min(2 * repeat, REPEAT)

    def _ask_blocking(self, words: Words, until: float) -> Any:
        began = now()
        try:
            # Well below the socket timeout: the end of BLOCK is a reply, and not a lost one.
            block = max(0, min(until - began, REPEAT, timeout_of(self.node(first_key(words))) / 2))
            reply = self.ask((*words, "BLOCK", ms(block)))
            # Some connections cannot block: Valkey's with RESP3 and subscriptions.
            pause = began + min(block, PAUSE) - now()
            if isinstance(reply, int) and pause > 0:
                time.sleep(pause)
        finally:
            self._leave.give_back()
        return reply

    def check_open(self) -> None:
        """What is raised here is not repeated."""
        if self._is_closed:
            raise LockError("The client was closed.")

    def node(self, name: str) -> redis.Redis:
        self.check_open()
        if self._single is not None:
            return self._single
        return self.node_at(*(self._slots.owner(name) or self._ask_library(name)))

    def _ask_library(self, name: str) -> tuple[str, int]:
        assert self._cluster is not None
        try:
            node = self._cluster.get_node_from_key(name)
        except (RedisClusterException, KeyError) as error:
            raise ConnectionError(f"No node has the slot: {error}") from error
        if node is None:
            raise ConnectionError("No node has the slot.")
        return node.host, int(node.port)

    def node_at(self, host: str, port: int) -> redis.Redis:
        assert self._cluster is not None
        if (host, port) not in self._nodes:
            template = self._cluster.get_default_node().redis_connection
            self._nodes[host, port] = like(template, host=host, port=port)
        return self._nodes[host, port]

    def learn(self, name: str, error: RedisError) -> None:
        """What an error says of the node that has the lock."""
        if self._cluster is None:
            if self._single is not None and not_of_master(error):
                self._single.connection_pool.disconnect(inuse_connections=False)
            return
        if isinstance(error, MovedError):
            self._slots.moved(name, error)
        elif not isinstance(error, ResponseError) or isinstance(error, ClusterDownError):
            self._slots.forget(name)
            with contextlib.suppress(RedisError, RedisClusterException):
                self._cluster.nodes_manager.initialize()


class Session(Performer):
    """A connection of its own for one hold, which ends with it. What releases the hold, or is guarded by it, goes by another
    one."""

    def __init__(self, server: Server, options: Options) -> None:
        self._server, self._name = server, options.name
        self._own: Optional[redis.Redis] = None
        # Where the slot of the lock is on its way to, if a node has said so: the connection is one to there.
        self._importing: Optional[tuple[str, int]] = None

    def ask(self, words: Words, replicas: int) -> Any:
        if words[0] in ("LOCK.RELEASE", "LOCK.MRELEASE", "LOCK.GUARD"):
            return self._server.ask(words)
        return self._ask(words, replicas)

    def ask_in_turn(self, words: Words, wait: Optional[float]) -> Any:
        words = (*words, "BLOCK", 0 if wait is None else ms(wait))
        # No other reply may take as long.
        return self._ask(words, timeout=None if wait is None else wait + TIMEOUT)

    def _ask(self, words: Words, replicas: int = 0, **reading: Any) -> Any:
        try:
            self._server.check_open()
            if self._own is None:
                node = self._server.node_at(*self._importing) if self._importing else self._server.node(self._name)
                self._own = like(node, single_connection_client=True)
            return send_by(self._own, words, replicas, asking=self._importing is not None, **reading)
        except RedisError as error:
            # By the next connection the hold would not be tied to anything.
            self.end()
            self._importing = asked_at(error)
            self._server.learn(self._name, error)
            raise

    def hung_up(self) -> bool:
        own = self._own
        return own is None or closed_by_peer(getattr(own.connection, "_sock", None))

    def end(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own.connection_pool.disconnect()


def like(client: redis.Redis, **other: Any) -> redis.Redis:
    """A client with the same settings, connections of its own, and those settings that are given."""
    pool = client.connection_pool
    single = other.pop("single_connection_client", False)
    settings = {**settings_of(pool.connection_kwargs, Retry(NoBackoff(), 0)), **other}
    settings["connection_class"] = pool.connection_class
    if isinstance(pool, SentinelConnectionPool):
        ours: redis.ConnectionPool = SentinelConnectionPool(pool.service_name, pool.sentinel_manager, **settings)
    else:
        ours = redis.ConnectionPool(**settings)
    return redis.Redis(connection_pool=ours, single_connection_client=single)


def wait_for(replicas: int, client: redis.Redis) -> Words:
    return ("WAIT", replicas, ms(min(1.0, timeout_of(client) / 2)))


def timeout_of(client: redis.Redis) -> float:
    return float(client.connection_pool.connection_kwargs["socket_timeout"] or TIMEOUT)


def send_by(own: redis.Redis, words: Words, replicas: int, asking: bool, **reading: Any) -> Any:
    """As `send`, by the one connection of a client, which a pipeline would not use. `timeout`: how long the reply may
    take."""
    connection: Any = own.connection

    def reply(*words: Union[str, bytes, int], **reading: Any) -> Any:
        connection.send_command(*words)
        return connection.read_response(**reading)

    try:
        if asking:
            reply("ASKING")
        replies = [reply(*words, **reading)]
        return [*replies, reply(*wait_for(replicas, own))] if replicas else replies[0]
    except ValueError as error:
        raise ConnectionError("The connection was closed.") from error


def send(client: redis.Redis, words: Words, replicas: int = 0, asking: bool = False) -> Any:
    """The reply; with `replicas` a pair, of the reply and of how many have what was written so far."""
    if not replicas and not asking:
        try:
            return client.execute_command(*words)
        except ValueError as error:
            # From a connection that another thread has closed, at the end of a session or of all.
            raise ConnectionError("The connection was closed.") from error
    with client.pipeline(transaction=False) as pipe:
        if asking:
            pipe.execute_command("ASKING")
        pipe.execute_command(*words)
        if replicas:
            pipe.execute_command(*wait_for(replicas, client))
        replies = pipe.execute(raise_on_error=False)[asking:]
    for each in replies:
        if isinstance(each, Exception):
            raise each
    return replies if replicas else replies[0]
