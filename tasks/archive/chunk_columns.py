"""The columns of a chunk, and the form in which an archive stores the values of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.errors.exceptions import Terminal
from infra.tables.read_table import is_default
from infra.tables.statements import parameter_safe
from infra.tables.table import Table
from infra.tables.time_sql import time_bound, time_column
from tasks.columns.column_forms import MOST_DIGITS, STANDARD_COLUMNS, Column
from tasks.table.chunks import Chunk

# Read from the chunk, which is locked: ALTER TABLE on the hypertable waits for that lock. A domain is archived as its
# base type, which is the last row of each column.
_COLUMNS = """
    WITH RECURSIVE below AS (
        SELECT attnum, attname, format_type(atttypid, atttypmod) AS shown, attgenerated <> '' AS generated,
               atttypid AS oid, atttypmod AS modifier
          FROM pg_attribute
         WHERE attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT b.attnum, b.attname, b.shown, b.generated, t.typbasetype, t.typtypmod
          FROM below AS b JOIN pg_type AS t ON t.oid = b.oid AND t.typtype = 'd')
    SELECT b.attname, b.shown, CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname END, b.modifier,
           b.generated
      FROM below AS b JOIN pg_type AS t ON t.oid = b.oid AND t.typtype <> 'd' ORDER BY b.attnum"""
_NATURAL = {
    name: name
    for name in ("bool", "int2", "int4", "int8", "float4", "float8", "date", "timestamp", "timestamptz", "uuid")
} | {"bytea": "bytea", "jsonb": "jsonb", "text": "text", "varchar": "text"}
_SIGN_BIT = 1024  # of the eleven bits of a numeric's scale

# Values that the Arrow type lacks or that few readers can show: infinity, NaN, years before 1 and after 9999.
_MOMENTS: LiteralString = "coalesce(bool_and({c} >= '0001-01-01' AND {c} < '10000-01-01'), true)"
_NUMBERS: LiteralString = "coalesce(bool_and({c} <> 'NaN'), true)"
_FITTING: LiteralString = "SELECT {tests} FROM {table} AS e WHERE {time} >= {bound} AND {time} < {bound}"


def read_columns(connection: psycopg.Connection, table: Table, chunk: Chunk, doing: str) -> tuple[Column, ...]:
    """The columns of a chunk of `table`, each with a form that holds all its present values.

    Those of `events` begin with the standard ones. Called in a transaction that has locked the chunk. Raises `Terminal`
    if a standard column of `events` is missing or has another type, since no row could be restored without it; and
    `psycopg.Error`.
    """
    with fixed_texts(connection):
        rows = connection.execute(_COLUMNS, [chunk.schema, chunk.table]).fetchall()
        found = {name: Column(name, shown, _form(kind, mod), computed) for name, shown, kind, mod, computed in rows}
        if not is_default(table):
            return tuple(_fitting(connection, table, chunk, list(found.values())))
        for ours in STANDARD_COLUMNS:
            here = found.get(ours.name)
            if here is None or (here.form != ours.form and ours.form != "text"):
                raise Terminal(
                    f"{doing}: expected the column {ours.name} {ours.type}, found {here.type if here else 'none'}; the"
                    " chunk stays with all its rows; alter the table, or keep the chunk (SPILLWAY_KEEP=)"
                )
        names = [column.name for column in STANDARD_COLUMNS]
        own = [column for name, column in found.items() if name not in names]
        return (*(found[name] for name in names), *_fitting(connection, table, chunk, own))


def shape_of(columns: Sequence[Column]) -> frozenset[tuple[str, str]]:
    """Names and types of columns. If an archive and its chunk differ in shape, the archive is not complete."""
    return frozenset((column.name, column.type) for column in columns)


def chunk_shape(connection: psycopg.Connection, chunk: Chunk) -> frozenset[tuple[str, str]]:
    """`shape_of` the columns of a chunk that is not locked; empty if it was dropped."""
    with fixed_texts(connection):
        rows = connection.execute(_COLUMNS, [chunk.schema, chunk.table]).fetchall()
    return frozenset((name, shown) for name, shown, *_ in rows)


def _form(kind: str | None, modifier: int) -> str:
    """The name of the form for a type; `as written` if Arrow has no type for it."""
    if kind == "numeric" and modifier >= 0:
        digits = (modifier - 4) >> 16
        scale = (((modifier - 4) & (2 * _SIGN_BIT - 1)) ^ _SIGN_BIT) - _SIGN_BIT
        if 0 <= scale <= digits <= MOST_DIGITS:
            return f"numeric({digits},{scale})"
    return _NATURAL.get(kind or "", "as written")


def _fitting(connection: psycopg.Connection, table: Table, chunk: Chunk, columns: Sequence[Column]) -> list[Column]:
    """The columns, with the form `as written` for those with a value that does not fit the Arrow type.

    Every time of a chunk fits.
    """
    tests = {column.name: test for column in columns if column.name != table.time and (test := _test(column.form))}
    if not tests:
        return list(columns)
    listed = sql.SQL(", ").join(
        sql.SQL(test).format(c=sql.SQL("e.{}").format(parameter_safe(sql.Identifier(name))))
        for name, test in tests.items()
    )
    query = sql.SQL(_FITTING).format(
        tests=listed,
        table=parameter_safe(table.identifier),
        time=time_column(table, "e"),
        bound=time_bound(table),
    )
    row = connection.execute(query, [chunk.range_start, chunk.range_end]).fetchone()
    assert row is not None  # an aggregate has one row
    unfit = {name for name, fits in zip(tests, row, strict=True) if not fits}
    return [replace(column, form="as written") if column.name in unfit else column for column in columns]


def _test(form: str) -> LiteralString | None:
    if form in ("date", "timestamp", "timestamptz"):
        return _MOMENTS
    return _NUMBERS if form.startswith("numeric") else None
