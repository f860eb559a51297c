"""Applying schema.sql."""

from __future__ import annotations

import psycopg
from psycopg import sql

from infra.errors import Terminal, Transient, is_transient, one_line
from infra.settings import SCHEMA_SQL, host_of

CONNECT_TIMEOUT = 10  # seconds
LOCK_TIMEOUT = 60  # seconds: a drain that is loading holds locks on `events` for as long as one range takes


def statements(text: str) -> str:
    """`text` without psql's meta-commands: lines that start with a backslash, which no server understands."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("\\"))


def apply_schema(url: str) -> None:
    """Apply schema.sql to the database at `url`: wholly or not at all, and harmless if it is there already.

    Raises `Terminal` with the server's message and hint, `Transient` if the server could not be asked or a lock
    was not to be had.
    """
    text = statements(SCHEMA_SQL.read_text(encoding="utf-8"))
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT) as connection:
            connection.execute(sql.SQL("SET lock_timeout = {}").format(f"{LOCK_TIMEOUT}s"))
            # One simple query, so that the file's own BEGIN and COMMIT decide.
            connection.execute(text.encode())
    except psycopg.Error as error:
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        said = error.diag.message_primary or f"{one_line(error)}; see that it runs (`spillway up`)"
        kind = Transient if is_transient(error) else Terminal
        raise kind(f"schema.sql on {host_of(url)}: {said}{hint}") from error


def schema_is_there(connection: psycopg.Connection[tuple[str | None]]) -> bool:
    """Whether the database holds Spillway's tables."""
    row = connection.execute("SELECT to_regclass('spillway.ledger')::text").fetchone()
    return row is not None and row[0] is not None
