"""What reaches the caller. Whatever redis-py raises besides is passed on as it is."""

from __future__ import annotations

from typing import NoReturn

from redis import exceptions


class LockError(exceptions.LockError):
    """A lock could not be acquired, or was lost."""


class NotAcquiredError(LockError):
    """The lock did not become available in time."""


class LockLostError(LockError, exceptions.LockNotOwnedError):
    """The lock ended before its holder released it."""


class QueueFullError(LockError):
    """Too many wait for this lock, or on this server."""


class DeadlockError(LockError):
    """The wait could never have ended."""


class TooFewReplicasError(LockError):
    """Fewer replicas than wanted have confirmed the grant. The lock was released again."""


class NotPermittedError(LockError, exceptions.NoPermissionError):
    """The user of this connection may not acquire this lock."""


class WrongTypeError(LockError, exceptions.ResponseError):
    """The key holds something that is no lock."""


_OWN = {
    "QUEUEFULL": QueueFullError,
    "DEADLOCK": DeadlockError,
    "NOPERM": NotPermittedError,
    "WRONGTYPE": WrongTypeError,
}
_PASSING = {
    "LOADING",
    "READONLY",
    "UNBLOCKED",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "OOM",
}
# Of these redis-py keeps the code out of the text.
_CODES: dict[type[Exception], str] = {
    exceptions.NoPermissionError: "NOPERM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.OutOfMemoryError: "OOM",
}


def code_of(error: Exception) -> str:
    """The word with which the server's error begins."""
    return _CODES.get(type(error)) or str(error).partition(" ")[0]


def passes(error: Exception) -> bool:
    """Whether the same request may succeed later: the table in docs/clients.md."""
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return False
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError)):
        return True
    return isinstance(error, exceptions.ResponseError) and code_of(error) in _PASSING


def not_of_master(error: Exception) -> bool:
    """Whether the server is no master any more: its name may lead to another one now."""
    return code_of(error) in ("READONLY", "MASTERDOWN")


def reraise(error: exceptions.RedisError, name: str) -> NoReturn:
    """Raises the error as the caller gets it."""
    own = _OWN.get(code_of(error))
    if own:
        raise own(str(error), lock_name=name) from error
    raise error
