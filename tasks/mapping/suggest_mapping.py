"""Reads what a proposal needs from both servers, and proposes a mapping, with a table for it if there is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from packaging.version import Version

from infra.connections.clients import Clients
from infra.tables.read_table import parse_table_name, read_table
from infra.versions import parse_version
from tasks.mapping.create_table import create_table
from tasks.mapping.propose_table import table_name
from tasks.mapping.read_sample import find_file, is_file, sample_file, sample_stream
from tasks.mapping.suggest import ProposedMapping, suggest

# Entries or rows of the sample. Many, since a rare value decides the type of a column.
SAMPLE = 20_000
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_EXISTS = """
    SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = %s AND c.relname = %s)"""
_TIMESCALEDB = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"


@dataclass(frozen=True)
class Suggestion:
    """A proposed section of spillway.toml. `sql`: creates its table; None if that exists. `table`: its name."""

    toml: str
    sql: str | None
    table: str
    notes: tuple[str, ...]
    sampled: int


def suggest_mapping(clients: Clients, source: str, wanted: str | None) -> Suggestion:
    """A mapping for a stream, or a file. `wanted`: the table; None for a new one, or an existing one of that name.

    Raises `SpillwayError`.
    """
    file = find_file(source) if is_file(source) else None
    name = source if file is None else file.path.rpartition("/")[2]
    with clients.translate_errors(f"read {source}"):
        groups = sample_stream(clients.redis, source, SAMPLE) if file is None else sample_file(file, SAMPLE).groups
    schema, plain = parse_table_name(wanted) if wanted else (clients.settings.events_schema, table_name(name))
    with clients.translate_errors("mapping suggest"), clients.postgres() as connection:
        table = read_table(connection, _quoted(schema, plain)) if wanted or _exists(connection, schema, plain) else None
        target = short_name(schema, plain, clients.settings.events_schema)
        found = suggest(name, groups, file is None, table, plain, target)
        sql = _create(connection, found, schema)
    return Suggestion(found.toml, sql, f"{schema}.{plain}", tuple(found.notes), found.sampled)


def short_name(schema: str, name: str, default_schema: str) -> str:
    """A table's name for spillway.toml, with quotes and a schema only if it needs them."""
    parts = [name] if schema == default_schema else [schema, name]
    return ".".join(part if _PLAIN.fullmatch(part) else '"' + part.replace('"', '""') + '"' for part in parts)


def _quoted(schema: str, name: str) -> str:
    return short_name(schema, name, "")


def _exists(connection: psycopg.Connection, schema: str, name: str) -> bool:
    row = connection.execute(_EXISTS, [schema, name]).fetchone()
    return row is not None and bool(row[0])


def _create(connection: psycopg.Connection, found: ProposedMapping, schema: str) -> str | None:
    if found.table is None:
        return None
    names = {schema, found.table.name, *(column.name for column in found.table.columns)}
    quoted: dict[str, str] = dict(
        connection.execute("SELECT name, quote_ident(name) FROM unnest(%s::text[]) AS name", [list(names)]).fetchall()
    )
    return create_table(found.table, schema, _timescaledb(connection), quoted.__getitem__)


def _timescaledb(connection: psycopg.Connection) -> Version | None:
    row = connection.execute(_TIMESCALEDB).fetchone()
    return None if row is None else parse_version(row[0])


def document_lines(found: Suggestion) -> Iterator[str]:
    """The proposal as one TOML document: what a person should check, and the SQL, are comments."""
    for note in found.notes:
        yield f"# {note}"
    if found.sql is not None:
        yield from (f"# {line}" for line in found.sql.split("\n"))
        yield ""
    yield from found.toml.split("\n")
