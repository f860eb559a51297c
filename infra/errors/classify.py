"""Which errors of the two servers are transient. Unknown errors are terminal: retrying them would hide them."""

from __future__ import annotations

import re
import ssl

import psycopg
import redis

from infra.errors.exceptions import PasswordMissing, SpillwayError, Transient, UnknownHost
from infra.errors.sqlstates import INTERNAL_ERROR, ErrorScope, sqlstate_rule

# The code of an internal error (XX000) says nothing, but the server also sends the place in its source, untranslated.
# This one: the chunk that a statement was about to write to was just dropped. The next attempt creates a new one.
# TimescaleDB 2.19 reports this; later versions retry by themselves.
_DROPPED_MEANWHILE = ("relation.c", "relation_open")
_TOO_LARGE_FILE = "mcxt.c"  # a value needs more than a gigabyte, which no memory context provides
_LOCK_TABLE = "lock.c"
# The source of what a PL/pgSQL function raises by RAISE or ASSERT, with any SQLSTATE and in any language. A bare RAISE
# keeps the source of the error that it passes on. PL/Python has one source for both, so it is not here.
_RAISED = {"exec_stmt_raise", "exec_stmt_assert"}

# What libpq itself refuses. Its messages are English: it translates them only if the process asks, and Python does not.
_CLIENT_REFUSES = re.compile(
    r"certificate verify failed|does not support SSL|invalid (connection option|sslmode)|root certificate file"
    r"|server certificate for|certificate .* does not exist|private key file"
    # What the server says about the client's certificate: an alert of TLS, which OpenSSL puts into words.
    r"|SSL error: .*alert (unknown ca|bad certificate|certificate \w+|unsupported certificate)"
)

_REDIS_TRANSIENT: tuple[type[Exception], ...] = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.AskError,  # includes MOVED: the next attempt asks the Cluster where the key is
    redis.exceptions.ClusterDownError,  # includes MASTERDOWN: a replica without its primary
)
# Transient codes (the first word of a reply) that redis-py has no class for.
REDIS_TRANSIENT_CODES = {
    "MISCONF": "Redis cannot save to its disk and accepts no writes",
    "BUSY": "a script is running",
    "NOREPLICAS": "too few replicas are connected for a write",
}
_REDIS_TERMINAL: tuple[type[Exception], ...] = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
)


def is_transient(error: BaseException) -> bool:
    """Whether another attempt may succeed. Unknown errors are not transient.

    A `psycopg` error is judged by its SQLSTATE, a `redis` error by its class.
    """
    if isinstance(error, SpillwayError):
        return isinstance(error, Transient)
    if isinstance(error, psycopg.Error):
        return _is_transient_in_postgres(error)
    if isinstance(error, _REDIS_TERMINAL) or tls_fault(error) is not None:
        return False
    return isinstance(error, _REDIS_TRANSIENT) or redis_code(error) in REDIS_TRANSIENT_CODES


def _is_transient_in_postgres(error: psycopg.Error) -> bool:
    state = error.sqlstate
    if state == INTERNAL_ERROR:
        return _source(error) == _DROPPED_MEANWHILE
    if state is not None:
        return sqlstate_rule(state).transient
    if isinstance(error, UnknownHost | PasswordMissing):
        return False
    return isinstance(error, psycopg.OperationalError) and not client_refuses(error)


def error_scope(error: psycopg.Error) -> ErrorScope:
    """What `error` concerns: one row, the statement or the server.

    Never decided by the message, which the server translates.
    """
    if was_raised(error):
        return ErrorScope.ROW
    if error.sqlstate is None:
        return ErrorScope.SERVER
    if value_too_large(error):  # a document with more parts than fit in a gigabyte
        return ErrorScope.ROW
    return sqlstate_rule(error.sqlstate).scope


def was_raised(error: psycopg.Error) -> bool:
    """Whether a function, such as a trigger's, raised the error itself, whatever its SQLSTATE."""
    return error.diag.source_function in _RAISED


def redis_code(error: BaseException) -> str | None:
    """The code of an error reply (`WRONGTYPE`, `MISCONF`, …); None for anything else."""
    if not isinstance(error, redis.exceptions.RedisError):
        return None
    code = getattr(error, "status_code", None)
    if code is None and isinstance(error, redis.exceptions.ResponseError):
        code = str(error).partition(" ")[0]
    return code


def tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error that made a connection to Redis fail, if it would fail again; else None.

    redis-py wraps it in a `ConnectionError`. A connection that was merely closed early may work the next time.
    """
    while error is not None:
        if isinstance(error, ssl.SSLError):
            passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
            return None if isinstance(error, passing) else error
        error = error.__cause__ or error.__context__
    return None


def client_refuses(error: psycopg.Error) -> bool:
    """Whether libpq itself refused the connection (TLS, certificates, options), whatever the server does."""
    return error.sqlstate is None and bool(_CLIENT_REFUSES.search(str(error)))


def value_too_large(error: psycopg.Error) -> bool:
    """Whether a value needs more memory than the server can give to any: an internal error by its code."""
    return error.sqlstate == INTERNAL_ERROR and _source(error)[0] == _TOO_LARGE_FILE


def out_of_locks(error: psycopg.Error) -> bool:
    """Whether the server has no room for another lock: by its code, it is out of memory."""
    return isinstance(error, psycopg.errors.OutOfMemory) and _source(error)[0] == _LOCK_TABLE


def _source(error: psycopg.Error) -> tuple[str | None, str | None]:
    return error.diag.source_file, error.diag.source_function
