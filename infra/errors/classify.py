"""Which errors of the two servers are transient. Unknown errors are terminal: retrying them would hide them."""

from __future__ import annotations

import re
import ssl

import psycopg
import redis

from infra.errors.exceptions import PasswordMissing, SpillwayError, Transient, UnknownHost

# SQLSTATEs (or their two-character class) of which the server itself says that another attempt may work.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_SQLSTATES = {
    "08": "connection exception",
    "40": "transaction rollback: serialization failure, deadlock",
    "53": "insufficient resources: disk full, out of memory, too many connections",
    "55P03": "lock not available: lock_timeout",
    "57014": "query canceled: statement_timeout",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now: starting up or shutting down",
    "57P05": "idle session timeout",
    "25006": "read-only transaction: a standby, or a full disk that made the server read-only",
    "25P03": "idle in transaction session timeout",
    "58030": "I/O error",
}

# An internal error (XX000) has no code of its own, but the place in the server's source that it comes from, which the
# server always sends and never translates.
_INTERNAL = "XX000"
# The chunk that a statement was about to write to has just been dropped. The next attempt makes a new one. TimescaleDB
# 2.19 says so; later ones look again by themselves.
_DROPPED_MEANWHILE = ("relation.c", "relation_open")
_TOO_LARGE_FILE = "mcxt.c"  # a value needs more than a gigabyte: no memory context gives that

# What libpq itself refuses, before or instead of the server, in its own words. They are English: libpq translates them
# only in a process that asks for it, and Python does not.
_CLIENT_REFUSES = re.compile(
    r"certificate verify failed|does not support SSL|invalid (connection option|sslmode)|root certificate file"
    r"|server certificate for|certificate .* does not exist|private key file"
)

_REDIS_TRANSIENT: tuple[type[Exception], ...] = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,  # a replica that lost its primary (MASTERDOWN) too
)
# Codes, the first word of a reply, that redis-py has no class for, and of which another attempt may work.
REDIS_TRANSIENT_CODES = {
    "MISCONF": "it cannot save to its disk and takes no writes",
    "BUSY": "a script runs",
    "NOREPLICAS": "too few replicas are there for a write",
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
        state = error.sqlstate
        if state is not None:
            if state == "53400":  # a limit that somebody has set
                return False
            if state == _INTERNAL:
                return _source(error) == _DROPPED_MEANWHILE
            return state in _TRANSIENT_SQLSTATES or state[:2] in _TRANSIENT_SQLSTATES
        if isinstance(error, UnknownHost | PasswordMissing):
            return False
        return isinstance(error, psycopg.OperationalError) and not client_refuses(error)
    if isinstance(error, _REDIS_TERMINAL) or tls_fault(error) is not None:
        return False
    return isinstance(error, _REDIS_TRANSIENT) or redis_code(error) in REDIS_TRANSIENT_CODES


def redis_code(error: BaseException) -> str | None:
    """The code of a reply that is an error (`WRONGTYPE`, `MISCONF`, …); None for anything else."""
    if not isinstance(error, redis.exceptions.RedisError):
        return None
    code = getattr(error, "status_code", None)
    if code is None and isinstance(error, redis.exceptions.ResponseError):
        code = str(error).partition(" ")[0]
    return code


def tls_fault(error: BaseException | None) -> ssl.SSLError | None:
    """What TLS refused and would refuse again, if that is why a connection to Redis failed; else None.

    redis-py wraps it in a `ConnectionError`. A connection that only ended early may work the next time.
    """
    while error is not None:
        if isinstance(error, ssl.SSLError):
            passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
            return None if isinstance(error, passing) else error
        error = error.__cause__ or error.__context__
    return None


def client_refuses(error: psycopg.Error) -> bool:
    """Whether libpq itself does not want this connection, whatever the server does: TLS, certificates, options."""
    return error.sqlstate is None and bool(_CLIENT_REFUSES.search(str(error)))


def value_too_large(error: psycopg.Error) -> bool:
    """Whether the server failed at a value that needs more memory than any may take, an internal error without a code
    of its own."""
    return error.sqlstate == _INTERNAL and _source(error)[0] == _TOO_LARGE_FILE


def _source(error: psycopg.Error) -> tuple[str | None, str | None]:
    return error.diag.source_file, error.diag.source_function
