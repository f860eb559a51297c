"""Applying schema.sql."""

from __future__ import annotations

from contextlib import closing

import psycopg
from psycopg import sql

from infra.connections.session import open_session
from infra.errors.classify import is_transient
from infra.errors.exceptions import Terminal, Transient
from infra.errors.redact import one_line
from infra.settings import SCHEMA_SQL, host_of, settings
from infra.table import events_name
from infra.timescaledb import check_catalog

CONNECT_TIMEOUT = 10  # seconds
LOCK_TIMEOUT = 60  # seconds: a drain that is loading holds locks on `events` for as long as one range takes


def statements(text: str) -> str:
    """`text` without psql's meta-commands: lines that start with a backslash, which no server understands."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("\\"))


def in_schema(text: str) -> str:
    """`text` with the events table in the schema of `SPILLWAY_EVENTS_SCHEMA`, in names and in quoted names."""
    name = events_name()
    quoted = sql.Literal(name).as_string(None)
    return text.replace("'public.events'", quoted).replace("public.events", name)


def apply_schema(url: str) -> None:
    """Apply schema.sql to the database at `url`: wholly or not at all, and harmless if it is there already.

    Raises `Terminal` with the server's message and hint, or if TimescaleDB's catalog is not as expected; `Transient`
    if the server could not be asked or a lock was not to be had.
    """
    text = in_schema(statements(SCHEMA_SQL.read_text(encoding="utf-8")))
    try:
        with closing(open_session(url, connect_timeout=CONNECT_TIMEOUT, lock_timeout=LOCK_TIMEOUT)) as connection:
            _make_schema(connection, settings().events_schema)
            # One simple query, so that the file's own BEGIN and COMMIT decide.
            connection.cursor().execute(b"BEGIN; " + connection.local_settings + b"; " + text.encode())
            check_catalog(connection)
    except psycopg.Error as error:
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        said = error.diag.message_primary or f"{one_line(error)}; see that it runs (`spillway up`)"
        kind = Transient if is_transient(error) else Terminal
        raise kind(f"schema.sql on {host_of(url)}: {said}{hint}") from error


def _make_schema(connection: psycopg.Connection, name: str) -> None:
    """Only if it is missing: a role without CREATE on the database may use one that exists."""
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))


def schema_is_there(connection: psycopg.Connection[tuple[str | None]]) -> bool:
    """Whether the database holds Spillway's tables."""
    row = connection.execute("SELECT to_regclass('spillway.ledger')::text").fetchone()
    return row is not None and row[0] is not None
