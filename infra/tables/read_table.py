"""Reads a table from the database's catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.errors.exceptions import Terminal
from infra.settings import settings
from infra.tables.table import Table, TableColumn, TableKind
from infra.timescaledb import TRIGGER_SCHEMAS
from infra.versions import can_compress_directly

EVENTS = "events"

_PART = r'(?:"((?:[^"]|"")+)"|([A-Za-z_\u0080-\U0010ffff][\w$]*))'
_NAME = re.compile(rf"\s*{_PART}\s*(?:\.\s*{_PART}\s*)?")
# As the server folds names that are not quoted. Other letters keep their case in a database with UTF8.
_FOLDED = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")

# A column of one of these types can be the time of a table.
_TIMES = ("timestamptz", "timestamp", "date")

_TABLE: LiteralString = """
    SELECT c.oid, c.relkind, c.relpersistence, row_security_active(c.oid), current_user,
           CASE p.partstrat WHEN 'r' THEN p.partattrs[0] END,
           EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      LEFT JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
     WHERE n.nspname = %s AND c.relname = %s"""
# The columns of hypertables and their chunks as TimescaleDB shows them: the hypertable's first dimension, whether it
# has columnstore enabled, and the hypertable that a chunk belongs to.
_HYPERTABLE: LiteralString = """
    SELECT (SELECT column_name FROM timescaledb_information.dimensions
             WHERE hypertable_schema = %(schema)s AND hypertable_name = %(name)s AND dimension_number = 1),
           (SELECT compression_enabled FROM timescaledb_information.hypertables
             WHERE hypertable_schema = %(schema)s AND hypertable_name = %(name)s),
           (SELECT format('%%I.%%I', hypertable_schema, hypertable_name) FROM timescaledb_information.chunks
             WHERE chunk_schema = %(schema)s AND chunk_name = %(name)s),
           (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
           EXISTS (SELECT FROM pg_index WHERE indrelid = %(oid)s AND indisunique)
           OR EXISTS (SELECT FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
                       WHERE t.tgrelid = %(oid)s AND NOT t.tgisinternal
                         AND f.pronamespace::regnamespace::text NOT IN {our_triggers})""".replace(
    "{our_triggers}", TRIGGER_SCHEMAS
)
# `chain`: the type of each column and, below a domain, the type that it is based on, down to one that is no domain.
# A domain's default applies only to columns of that very domain, but its NOT NULL also to those of domains above it.
# A base type outside of pg_catalog keeps its schema if its name is that of a built-in type.
# `triggered`: the user has triggers BEFORE INSERT FOR EACH ROW.
_COLUMNS: LiteralString = f"""
    WITH RECURSIVE chain AS (
        SELECT a.attnum, t.oid, t.typtype, t.typbasetype, t.typnotnull
          FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
         WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT chain.attnum, t.oid, t.typtype, t.typbasetype, t.typnotnull
          FROM chain JOIN pg_type AS t ON t.oid = chain.typbasetype WHERE chain.typtype = 'd'
    ), triggered AS (
        SELECT FROM pg_trigger AS t
          JOIN pg_proc AS f ON f.oid = t.tgfoid JOIN pg_namespace AS n ON n.oid = f.pronamespace
         WHERE t.tgrelid = %(oid)s AND t.tgtype & 7 = 7 AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
           AND n.nspname NOT IN {TRIGGER_SCHEMAS})
    SELECT a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
           CASE WHEN base.typnamespace <> 'pg_catalog'::regnamespace AND EXISTS (
                SELECT FROM pg_type AS b
                 WHERE b.typname = base.typname AND b.typnamespace = 'pg_catalog'::regnamespace)
                THEN format('%%I.%%I', base.typnamespace::regnamespace, base.typname) ELSE base.typname END,
           base.typtype,
           NOT (a.attnotnull OR EXISTS (SELECT FROM chain AS c WHERE c.attnum = a.attnum AND c.typnotnull)),
           a.atttypmod <> -1 OR own.typtype = 'd' OR EXISTS (
                SELECT FROM pg_collation AS k WHERE NOT k.collisdeterministic AND (k.oid = a.attcollation OR EXISTS (
                    SELECT FROM pg_index AS i
                     WHERE i.indrelid = a.attrelid AND a.attnum = ANY (i.indkey) AND k.oid = ANY (i.indcollation)))),
           CASE WHEN a.attgenerated <> '' OR a.attidentity = 'a' THEN NULL
                WHEN a.attidentity = 'd' THEN ''
                WHEN d.adbin IS NOT NULL THEN pg_get_expr(d.adbin, d.adrelid)
                WHEN own.typdefaultbin IS NOT NULL THEN pg_get_expr(own.typdefaultbin, 0)
                ELSE quote_literal(own.typdefault) END,
           a.attgenerated <> '' OR a.attidentity = 'a',
           a.attgenerated = '' AND EXISTS (SELECT FROM triggered), a.attidentity = 'a'
      FROM pg_attribute AS a
      JOIN pg_type AS own ON own.oid = a.atttypid
      JOIN chain ON chain.attnum = a.attnum AND chain.typtype <> 'd'
      JOIN pg_type AS base ON base.oid = chain.oid
      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = %(oid)s
     ORDER BY a.attnum"""  # noqa: S608
# The unique indexes that `ON CONFLICT (columns)` can use.
_KEYS: LiteralString = """
    SELECT i.indisprimary, i.indnullsnotdistinct, (i.indkey::int2[])[0:i.indnkeyatts - 1]
      FROM pg_index AS i
     WHERE i.indrelid = %(oid)s AND i.indisunique AND i.indisvalid AND i.indislive AND i.indimmediate
       AND i.indpred IS NULL AND i.indexprs IS NULL"""
_TABLES: LiteralString = """
    SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT LIKE '\\_timescaledb\\_%'
       AND n.nspname NOT IN ('information_schema', 'timescaledb_information', 'spillway')
     ORDER BY 1, 2 LIMIT 10000"""

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "i": "an index",
    "I": "an index",
    "S": "a sequence",
    "c": "a composite type",
    "t": "a TOAST table",
}


def default_table_name() -> str:
    """The quoted name of the table that a stream goes to without a table of its own: `events`."""
    return sql.Identifier(settings().events_schema, EVENTS).as_string(None)


def parse_table_name(name: str) -> tuple[str, str]:
    """The schema and the name in `table` or `schema.table`, read as the server reads them: letters without quotes are
    folded. Without a schema it is that of `SPILLWAY_EVENTS_SCHEMA`. Raises `Terminal`."""
    found = _NAME.fullmatch(name)
    if found is None or "\0" in name:
        raise Terminal(
            f"the table name {name!r}: expected table or schema.table, each in double quotes if it has other characters"
            ' than letters, digits and _, such as "my table"; nothing was read or written; correct the name'
        )
    quoted_first, first, quoted_second, second = found.groups()
    parts = [_unquoted(quoted_first, first)]
    if quoted_second or second:
        parts.append(_unquoted(quoted_second, second))
    else:
        parts.insert(0, settings().events_schema)
    return parts[0], parts[1]


def is_default(table: Table) -> bool:
    """Whether it is the table that a stream goes to without a table of its own: `events`."""
    return _is_default(table.schema, table.name)


def quoted_name(name: str) -> str:
    """The name of a table as `Table.regclass` has it. Raises as `parse_table_name`."""
    return sql.Identifier(*parse_table_name(name)).as_string(None)


def _is_default(schema: str, name: str) -> bool:
    return (schema, name) == (settings().events_schema, EVENTS)


def _unquoted(quoted: str | None, plain: str | None) -> str:
    return quoted.replace('""', '"') if quoted is not None else (plain or "").translate(_FOLDED)


def read_table(connection: psycopg.Connection[Any], name: str) -> Table:
    """The table `name`, written `table` or `schema.table` as in SQL; see `parse_table_name`.

    Expressions and types in it have the schema of every name outside of pg_catalog. Raises `Terminal` if rows cannot be
    loaded into it, and `psycopg.Error`.
    """
    schema, table = parse_table_name(name)
    with fixed_texts(connection):
        found = _find(connection, schema, table)
        if refusal := _refusal(found, schema, table):
            raise Terminal(refusal)
        rows = connection.execute(_COLUMNS, {"oid": found.oid}).fetchall()
        keys = connection.execute(_KEYS, {"oid": found.oid}).fetchall()
    by_number = {number: TableColumn(*parts) for number, *parts in rows}
    time = next((column for number, column in by_number.items() if found.dimension in (number, column.name)), None)
    # What identifies a row must be known before a trigger runs.
    needed = {time} | {by_number[number] for *_, numbers in keys for number in numbers}
    columns = (replace(one, set_by_trigger=False) if one in needed else one for one in by_number.values())
    return Table(
        schema,
        table,
        found.kind,
        tuple(columns),
        _in_order(keys, by_number),
        time.name if time is not None and time.base in _TIMES else None,
        found.columnstore,
        found.direct_compression,
        _in_order([key for key in keys if key[1]], by_number),
    )


@dataclass(frozen=True)
class _Relation:
    """What the catalog says about a name. `dimension`: the name or number of the column of its first dimension."""

    oid: int
    relkind: str
    persistence: str
    row_security: bool
    role: str
    dimension: str | int | None
    with_timescaledb: bool
    columnstore: bool = False
    direct_compression: bool = False
    hypertable: str | None = None  # that it is a chunk of

    @property
    def kind(self) -> TableKind:
        if self.relkind == "p":
            return TableKind.PARTITIONED
        return TableKind.PLAIN if self.dimension is None else TableKind.HYPERTABLE


def _find(connection: psycopg.Connection[Any], schema: str, name: str) -> _Relation:
    """The relation. Raises `Terminal` if there is none."""
    row = connection.execute(_TABLE, [schema, name]).fetchone()
    if row is None:
        raise Terminal(_missing(schema, name, connection.execute(_TABLES).fetchall()))
    found = _Relation(*row)
    if found.relkind == "p" or not found.with_timescaledb:
        return replace(found, dimension=found.dimension or None)
    hypertable = connection.execute(_HYPERTABLE, {"schema": schema, "name": name, "oid": found.oid}).fetchone()
    assert hypertable is not None  # a SELECT without FROM has one row
    dimension, columnstore, parent, version, unique_or_triggers = hypertable
    return replace(
        found,
        dimension=dimension,
        columnstore=bool(columnstore),
        direct_compression=bool(columnstore) and can_compress_directly(version) and not unique_or_triggers,
        hypertable=parent,
    )


def _refusal(found: _Relation, schema: str, name: str) -> str | None:
    """Why rows cannot be loaded into the relation; None if they can."""
    table = sql.Identifier(schema, name).as_string(None)
    nothing = "nothing was read or written"
    if found.relkind not in ("r", "p"):
        step = "rename it, then apply the schema (spillway schema)" if _is_default(schema, name) else "name a table"
        return f"{table}: expected a table, found {_KINDS.get(found.relkind, 'something else')}; {nothing}; {step}"
    if found.hypertable is not None:
        return f"{table}: expected a table, found a chunk of {found.hypertable}; {nothing}; name the hypertable instead"
    if schema == "spillway":
        return f"{table}: expected a table of yours, found one of Spillway's own; {nothing}; name another table"
    if found.persistence == "u":
        return (
            f"{table}: expected a table that keeps its rows if the server crashes, found an unlogged one; {nothing};"
            f" ALTER TABLE {table} SET LOGGED"
        )
    if found.row_security:
        return (
            f"{table}: row security applies to the role {found.role}, so it may not see all rows; {nothing};"
            f" ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE {found.role} BYPASSRLS"
        )
    return None


def _missing(schema: str, name: str, tables: list[tuple[str, str]]) -> str:
    """The message that there is no such table, with those that may be meant."""
    near = [table for table in tables if table[1].lower() == name.lower()]
    close = get_close_matches(f"{schema}.{name}", [".".join(table) for table in tables], 3, 0.8)
    near += [table for table in tables if ".".join(table) in close and table not in near]
    there = ", ".join(sql.Identifier(*table).as_string(None) for table in near[:3])
    found = f"none of this name; there is {there}" if there else "none"
    default = _is_default(schema, name)
    step = "apply the schema (spillway schema)" if default else "correct its name in spillway.toml, or create it"
    table_name = sql.Identifier(schema, name).as_string(None)
    return f"{table_name}: expected a table in this database, found {found}; nothing was read or written; {step}"


def _in_order(
    keys: list[tuple[bool, bool, list[int]]], by_number: dict[int, TableColumn]
) -> tuple[tuple[str, ...], ...]:
    """The keys' columns: the primary key first, then those with the fewest columns. Keys that let rows with nulls
    repeat come last."""

    def rank(key: tuple[bool, bool, list[int]]) -> tuple[bool, bool, int, list[int]]:
        primary, nulls_equal, numbers = key
        repeats = not nulls_equal and any(by_number[number].nullable for number in numbers)
        return repeats, not primary, len(numbers), numbers

    named = (tuple(by_number[number].name for number in key[2]) for key in sorted(keys, key=rank))
    return tuple(dict.fromkeys(named))
