"""One table of SQLSTATEs: what an error of PostgreSQL concerns, whether it is transient, and what a user does next.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal


class ErrorScope(Enum):
    """What an error concerns. `ROW`: the server rejects a value, and other rows may be accepted. `STATEMENT`: no row is
    accepted, or, if others were accepted, the error concerns the rejected rows. `SERVER`: never a row."""

    ROW = "row"
    STATEMENT = "statement"
    SERVER = "server"


@dataclass(frozen=True)
class SqlState:
    """`next_step`: what the user does, without a full stop. `{again}` becomes the command that failed; `{smaller}` the
    settings that make its batches smaller. None: no advice always fits.

    `quotes_row`: the part of the server's text in which values of a row may appear.
    """

    meaning: str
    scope: ErrorScope
    transient: bool = False
    next_step: str | None = None
    quotes_row: Literal["message", "detail"] | None = None


_ROW, _STATEMENT, _SERVER = ErrorScope
INTERNAL_ERROR = "XX000"
QUERY_CANCELED = "57014"

_SCHEMA = "apply the schema (spillway schema), then {again}"
_WAIT = "wait until it is up again (spillway status), then {again}"
_LOGIN = "fix user and password in SPILLWAY_DATABASE_URL, or allow this user to connect (pg_hba.conf)"
_RIGHTS = "grant the missing right to the role of SPILLWAY_DATABASE_URL (spillway grants ROLE --for COMMAND prints all)"

# Keys of two characters are classes. A code that is not here is judged by its class.
_SQLSTATES = {
    "08": SqlState("connection exception", _SERVER, True),
    "08P01": SqlState("protocol violation", _SERVER, True, "see the log of the pooler (PgBouncer), then {again}"),
    "0A": SqlState("feature not supported, such as COPY into a table with row security", _STATEMENT),
    "22": SqlState("data exception", _ROW, quotes_row="message"),
    "22023": SqlState("invalid parameter value", _ROW, quotes_row="detail"),
    "23": SqlState("integrity constraint violation", _ROW, quotes_row="detail"),
    "25": SqlState("invalid transaction state", _SERVER),
    "25006": SqlState(
        "read-only transaction: a standby, or a server whose disk is full", _SERVER, True,
        "wait for the primary or point SPILLWAY_DATABASE_URL at it, then {again}",
    ),
    "25P03": SqlState(
        "idle in transaction session timeout", _SERVER, True,
        "the transaction was rolled back; see why the run paused or raise SPILLWAY_STATEMENT_TIMEOUT, then {again}",
    ),
    "26": SqlState("invalid SQL statement name", _STATEMENT),
    "28": SqlState("invalid authorization", _SERVER, False, _LOGIN),
    "28000": SqlState("invalid authorization", _SERVER, False, f"{_LOGIN}, or name its certificate (sslcert, sslkey)"),
    "2D": SqlState("invalid transaction termination", _SERVER),
    "34": SqlState("invalid cursor name", _STATEMENT),
    "3D": SqlState("invalid catalog name", _SERVER),
    "3D000": SqlState("no such database", _SERVER, False, "create the database or fix SPILLWAY_DATABASE_URL"),
    "3F": SqlState("invalid schema name", _STATEMENT),
    "3F000": SqlState("no such schema", _STATEMENT, False, _SCHEMA),
    "40": SqlState(
        "transaction rollback: serialization failure, deadlock", _SERVER, True,
        "this transaction conflicted with another session and was rolled back; {again}",
    ),
    "42": SqlState("a missing right, or a name that does not exist", _STATEMENT),
    "42501": SqlState("insufficient privilege", _STATEMENT, False, _RIGHTS),
    # Our statements have no wrong syntax: it is in a value, such as a tsvector or a jsonpath.
    "42601": SqlState("syntax error", _ROW),
    "42703": SqlState(
        "no such column", _STATEMENT, False,
        "apply the schema (spillway schema) or restore the column if it is your own, then {again}",
    ),
    "42P01": SqlState("no such table", _STATEMENT, False, _SCHEMA),
    "44": SqlState("violation of WITH CHECK OPTION", _ROW),
    "53": SqlState("insufficient resources", _SERVER, True, "see the log of the database server, then {again}"),
    "53100": SqlState(
        "disk full", _SERVER, True, "nothing is lost; free disk space on the database server, then {again}"
    ),
    "53200": SqlState(
        "out of memory", _SERVER, True, "give the database server more memory{smaller}, then {again}"
    ),
    "53300": SqlState("too many connections", _SERVER, True, "raise max_connections{fewer}, then {again}"),
    "53400": SqlState(  # this limit is set on purpose
        "configuration limit exceeded", _SERVER, False,
        "raise timescaledb.max_tuples_decompressed_per_dml_transaction on the server, or set it to 0, then {again}",
    ),
    "54": SqlState("program limit exceeded: nesting too deep, an index row too large", _ROW),
    "55": SqlState("object not in prerequisite state", _SERVER),
    "55P03": SqlState(
        "lock not available: lock_timeout", _SERVER, True,
        "another session holds the lock; while a run waits for it, this names it: SELECT pid, state, query FROM"
        " pg_stat_activity WHERE pid IN (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity); end it with"
        " pg_terminate_backend, then {again}",
    ),
    "57": SqlState("operator intervention", _SERVER),
    QUERY_CANCELED: SqlState(
        "query canceled: statement_timeout", _SERVER, True, "raise SPILLWAY_STATEMENT_TIMEOUT{smaller}, then {again}"
    ),
    "57P01": SqlState("admin shutdown", _SERVER, True, _WAIT),
    "57P02": SqlState("crash shutdown", _SERVER, True, _WAIT),
    "57P03": SqlState("cannot connect now: starting up or shutting down", _SERVER, True, _WAIT),
    "57P05": SqlState("idle session timeout", _SERVER, True, "raise the server's idle_session_timeout, then {again}"),
    "58": SqlState("system error", _SERVER),
    "58030": SqlState(
        "I/O error", _SERVER, True, "nothing is lost; check the disk of the database server, then {again}"
    ),
    "F0": SqlState("configuration file error", _SERVER),
    "P0": SqlState("raised by a function", _ROW, quotes_row="message"),
    "XX": SqlState("internal error", _SERVER),
}  # fmt: skip
# For classes that only a user's function raises.
_UNKNOWN = SqlState("unknown", _ROW)


def sqlstate_rule(state: str) -> SqlState:
    """The rule for a SQLSTATE of five characters: its own, else that of its class."""
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) or _UNKNOWN


def classes_of(scope: ErrorScope) -> list[str]:
    """The classes, of two characters, whose errors concern `scope`; for statements that must decide on the server."""
    return [state for state, rule in _SQLSTATES.items() if len(state) == 2 and rule.scope is scope]
