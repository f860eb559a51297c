"""Checks whether rows fit into `events` as it is now. Users alter that table; all problems are reported at once."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from infra.errors.exceptions import Terminal
from infra.tables.events import events_name
from infra.tables.read_table import read_table
from tasks.table.triggers import has_row_triggers

_TABLE = """
    SELECT c.relkind, row_security_active(c.oid), current_user,
           (SELECT d.column_name FROM timescaledb_information.dimensions AS d
             WHERE d.hypertable_schema = n.nspname AND d.hypertable_name = c.relname AND d.dimension_number = 1)
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = %s::regclass"""
# For a domain the base type counts, also for a domain over a domain.
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), coalesce(b2.typname, b1.typname, t.typname),
           coalesce(b2.typtype, b1.typtype, t.typtype), a.atttypmod, a.attgenerated <> '' OR a.attidentity = 'a',
           (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
      FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
      LEFT JOIN pg_type AS b1 ON b1.oid = t.typbasetype LEFT JOIN pg_type AS b2 ON b2.oid = b1.typbasetype
     WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_KEY = """
    SELECT EXISTS (
        SELECT FROM pg_index AS i
         WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
           AND i.indexprs IS NULL AND i.indnkeyatts = 2
           AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute AS a
                 WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:1])) = '{event_id,time}')"""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}
_TEXTS = ("text", "varchar", "bpchar", "citext")
# By column: the types that accept what a binary COPY sends, and the type to propose if the column has another one.
_TYPES = {
    "time": (("timestamptz",), "timestamptz"),
    "event_id": (("uuid",), "uuid"),
    "event_type": (_TEXTS, "text"),
    "user_id": (_TEXTS, "text"),
    "properties": (("jsonb",), "jsonb"),
}


def check_table(connection: psycopg.Connection) -> None:
    """Raise `Terminal` with all problems of `events`, each with its fix. Raises `psycopg.Error`."""
    if problems := list(_problems(connection)):
        raise Terminal(f"preflight: {_table()}: {'; '.join(problems)}; nothing was read or written; fix it, then retry")


def _problems(connection: psycopg.Connection) -> Iterator[str]:
    name = events_name()
    row = connection.execute(_TABLE, [name]).fetchone()
    assert row is not None  # `regclass` has raised an error otherwise
    kind, row_security, role, dimension = row
    if kind != "r":
        found = _KINDS.get(kind, "something else")
        yield f"expected a table, found {found}: rename it, then apply the schema (spillway schema)"
        return
    if dimension is None:
        yield f"it is not a hypertable: SELECT create_hypertable('{_table()}', 'time', migrate_data => true)"
    elif dimension != "time":
        yield f"expected chunks by time, found chunks by {dimension}: create the table again, and copy its rows"
    if row_security:
        yield (
            f"row security applies to the role {role}, so it may not see all rows: ALTER TABLE {_table()} DISABLE"
            f" ROW LEVEL SECURITY, or ALTER ROLE {role} BYPASSRLS"
        )
    yield from _columns(connection, name)


def _columns(connection: psycopg.Connection, name: str) -> Iterator[str]:
    found = {row[0]: row[1:] for row in connection.execute(_COLUMNS, [name]).fetchall()}
    for column, (types, wanted) in _TYPES.items():
        if column not in found:
            yield f"the column {column} is missing: ALTER TABLE {_table()} ADD COLUMN {column} {wanted}"
            continue
        type_name, base, kind, modifier, generated, _ = found[column]
        fits = base in types or (types is _TEXTS and kind == "e")
        if not fits or (column == "time" and modifier != -1):
            yield (
                f"the column {column} is {type_name}, expected {wanted}: ALTER TABLE {_table()} ALTER COLUMN {column}"
                f" TYPE {wanted}"
            )
        if generated:
            yield f"the server generates the column {column}, so no value can be inserted: make it an ordinary column"
    if {"event_id", "time"} <= found.keys():
        row = connection.execute(_KEY, [name]).fetchone()
        if row != (True,):
            yield (
                "no unique index on (event_id, time) that is valid, not partial and not deferrable: CREATE UNIQUE INDEX"
                f" ON {_table()} (event_id, time)"
            )
    needed = [column for column, row in found.items() if row[-1] and column not in _TYPES]
    if needed and not has_row_triggers(connection, read_table(connection, name)):  # a trigger may set them
        for column in needed:
            yield (
                f'the column "{column}" is NOT NULL and has no default: ALTER TABLE {_table()} ALTER COLUMN'
                f' "{column}" SET DEFAULT …'
            )


def _table() -> str:
    return events_name().replace('"', "")
