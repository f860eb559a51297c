"""Two kinds of error decide everything: `Transient` is tried again, `Terminal` is not.

What is not known is terminal: retrying what nobody understands hides it.
"""

from __future__ import annotations

import re
import ssl
from typing import Any

import psycopg
import redis

from infra.display import printable
from infra.errors.exit_codes import ExitCode


class SpillwayError(Exception):
    """An error written for the person who reads it: what, where, expected, found, next step, in one line."""

    exit_code = ExitCode.FAILED  # of a command that ends with it

    def __init__(self, message: str) -> None:
        # Prefect logs what a flow raises and shows it as the state of the run, whatever names the message quotes.
        super().__init__("\n".join(map(printable, message.split("\n"))))


class Transient(SpillwayError):
    """The same step may succeed later with nothing changed by anybody's hand."""


class Terminal(SpillwayError):
    """The same step will fail again until somebody changes something."""


class WrongUse(Terminal):
    """Arguments, settings or a mapping file that cannot be meant. Nothing was done."""

    exit_code = ExitCode.WRONG_USE


class Unsuccessful(Terminal):
    """A run that has done and reported what it could, and still must not pass for a success.

    `result`: what the flow returns otherwise, for its command to print.
    """

    def __init__(self, message: str, result: dict[str, Any], exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.result = result
        self.exit_code = exit_code


class PrefectGone(Terminal):
    """The Prefect server went away. At the end of the process Prefect waits for it, minutes to hours: leave at once."""


class AlreadyDrained(SpillwayError):
    """The ledger holds a part of this id range already: somebody else did it, so it is done."""


class UnknownHost(psycopg.OperationalError):
    """The name of the database's host stands for no address."""


class NoAnswer(psycopg.OperationalError):
    """The server was silent for longer than a statement may take."""


class PasswordMissing(psycopg.OperationalError):
    """The server asks for a password, and none is set."""


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


# In this order: what an earlier one hides, a later one does not look at.
_SECRETS = (
    re.compile(r"([?&]\w*password=)[^&\s]*", re.IGNORECASE),
    # libpq's pairs: blanks around the =, and in quotes a backslash before a quote.
    re.compile(r"(password\s*=\s*)(?!\*\*\*)(?:'(?:\\.|[^'\\])*'?|(?:\\.|[^\s\\])+)", re.IGNORECASE),
    # To the last @: a password that nobody percent-encoded may hold @, : and /, and even blanks.
    re.compile(r"(://[^\s:]*:)(?:\S*|[^/\n]*)(?=@)"),
    # What libpq, psycopg and urllib quote of a URL that they cannot read. No host and no port has an @.
    re.compile(r"""((?:percent-encoded token: |spaces found in |integer value (?:as )?)["'])[^"']*"""),
    re.compile(r"""(["'])[^"'\s]*(?=@[^"'\s]*\1)"""),
)


def redact(text: str) -> str:
    """`text` with every password of a URL or a `password=` pair replaced by `***`."""
    for secret in _SECRETS:
        text = secret.sub(r"\1***", text)
    return text


# RAISE and ASSERT of PL/pgSQL report from here, in any language of the server.
_RAISED = {"exec_stmt_raise", "exec_stmt_assert"}


def may_quote_a_row(error: psycopg.Error) -> bool:
    """Whether the server's words may quote a row: of a value that it rejects, or raised by a function."""
    state = error.sqlstate or ""
    return state[:2] in ("22", "23", "P0") or error.diag.source_function in _RAISED


def _server_words(error: psycopg.Error) -> str:
    """What the server said, without what may quote a row. Of an integrity error the message has names only, its detail
    has the row. 22023 is about a parameter."""
    words = error.diag.message_primary or ""
    names_only = error.sqlstate is not None and (error.sqlstate[:2] == "23" or error.sqlstate == "22023")
    if names_only and error.diag.source_function not in _RAISED:
        return words
    return f"{type(error).__name__} [{error.sqlstate}]; the server's words may quote a row: they are in its log"


def one_line(error: BaseException) -> str:
    """The message of `error` as one line without passwords, and without the content of rows."""
    quotes = isinstance(error, psycopg.Error) and bool(error.diag.message_primary) and may_quote_a_row(error)
    said = _server_words(error) if quotes and isinstance(error, psycopg.Error) else str(error)
    text = " ".join(said.split()).removesuffix(".") or type(error).__name__
    return printable(redact(text))
