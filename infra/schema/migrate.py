"""Apply the schema: every script of `infra.schema.scripts`, each in its own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import psycopg
from psycopg import sql

from infra.connections.session import Session, open_session
from infra.errors.classify import is_transient
from infra.errors.exceptions import Terminal, Transient
from infra.errors.next_steps import next_step, repeat
from infra.errors.redact import one_line
from infra.schema.scripts import Script, scripts
from infra.settings import host_of, settings
from infra.tables.read_table import EVENTS
from infra.timescaledb import check_catalog

CONNECT_TIMEOUT = 10  # seconds
LOCK_TIMEOUT = 60  # seconds: a loading drain locks `events` for as long as one range takes


def apply_schema(url: str, wanted: Sequence[Script] | None = None) -> None:
    """Apply the schema to the database at `url`; harmless if it is already applied. An earlier version is upgraded.

    A script that fails changes nothing; those before it stay applied. `wanted`: the scripts, all if None.

    Raises `Terminal` with the server's message and hint for a database that is newer than this program, or if
    TimescaleDB's catalog is not as expected; `Transient` if the server does not answer or a lock is not available.
    """
    preamble, *others = scripts(sql.Identifier(settings().events_schema, EVENTS)) if wanted is None else wanted
    try:
        with closing(open_session(url, connect_timeout=CONNECT_TIMEOUT, lock_timeout=LOCK_TIMEOUT)) as connection:
            _apply(connection, preamble, url)
            _create_events_schema(connection, settings().events_schema)
            for script in others:
                _apply(connection, script, url)
            check_catalog(connection)
    except psycopg.Error as error:
        kind = Transient if is_transient(error) else Terminal
        raise kind(f"schema on {host_of(url)}: {one_line(error)}; {next_step(error, 'schema')}") from error


def _apply(connection: Session, script: Script, url: str) -> None:
    try:
        with connection.transaction():
            connection.cursor().execute(script.statements.encode())
    except psycopg.Error as error:
        step = f"version {script.version} ({script.name})" if script.version else script.name
        message = error.diag.message_primary or one_line(error)
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        kind = Transient if is_transient(error) else Terminal
        raise kind(
            f"schema on {host_of(url)}: {step}: {message}{hint}; nothing of this step was applied; fix the cause, then"
            f" {repeat('schema')}"
        ) from error


def _create_events_schema(connection: Session, name: str) -> None:
    """Only if it does not exist: a role without CREATE on the database may use an existing schema."""
    if connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [name]).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))
