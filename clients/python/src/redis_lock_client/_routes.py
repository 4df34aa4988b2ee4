"""Which server a lock is on, and connections of our own to it.

A client gets its settings from the redis-py client it is given, and shares no connection with it: a pool that others
have emptied would hold up a release. The library does not repeat commands here, since `_steps` does, within a lease.
"""

from __future__ import annotations

import select
from typing import Any, Optional

from redis.exceptions import AskError, MovedError

from ._steps import TIMEOUT, Options, slot_of

# What belongs to the pool or to the client it is taken from.
_NOT_TAKEN = (
    "connection_pool", "event_dispatcher", "himport_registry", "maint_notifications_config",
    "maint_notifications_pool_handler", "max_connections", "oss_cluster_maint_notifications_handler", "orig_host_address",
    "orig_socket_connect_timeout", "orig_socket_timeout", "response_callbacks", "retry_on_error", "retry_on_timeout",
)  # fmt: skip


def settings_of(settings: dict[str, Any], retry: Any) -> dict[str, Any]:
    """The settings of connections as ours are to have them."""
    ours = {name: value for name, value in settings.items() if name not in _NOT_TAKEN}
    ours["retry"] = retry
    # As many as are asked of at once: who has to release a lock must not be refused a connection.
    ours["max_connections"] = 2**31
    ours["decode_responses"] = False
    ours["socket_timeout"] = ours.get("socket_timeout") or TIMEOUT
    ours["socket_connect_timeout"] = ours.get("socket_connect_timeout") or TIMEOUT
    return ours


def asked_at(error: Exception) -> Optional[tuple[str, int]]:
    """The node that has the lock for this once, where a redirection says so."""
    is_ask = isinstance(error, AskError) and not isinstance(error, MovedError)
    return (error.host, int(error.port)) if is_ask else None  # type: ignore[attr-defined]


def closed_by_peer(sock: Any) -> bool:
    """Whether the other side has closed it, as far as the system can say. Reads nothing, so that others may."""
    if sock is None or sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    # Linux says so by this; others by POLLHUP, which is always reported.
    poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def check_slots(options: Options) -> None:
    """A cluster has no command for keys of several slots."""
    if len({slot_of(name) for name in options.names}) > 1:
        raise ValueError(
            "In a cluster locks that are acquired together have to be in one slot: put the same {tag} in all names, "
            "as in {bank}:7 and {bank}:8."
        )


class Slots:
    """What redirections have said, which is news to the library's map."""

    def __init__(self) -> None:
        self._moved: dict[int, tuple[str, int]] = {}

    def owner(self, name: str) -> Optional[tuple[str, int]]:
        return self._moved.get(slot_of(name))

    def moved(self, name: str, error: MovedError) -> None:
        self._moved[slot_of(name)] = error.host, int(error.port)

    def forget(self, name: str) -> None:
        self._moved.pop(slot_of(name), None)
