"""How the values of a column are archived: with an Arrow type, or as the text that PostgreSQL writes for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import pyarrow as pa
from psycopg import sql

from infra.tables.statements import AS_WRITTEN, parameter_safe

# Metadata key of a column in a Parquet file: its PostgreSQL type.
PG_TYPE = b"postgresql_type"
# The digits of Arrow's largest decimal.
MOST_DIGITS = 76


@dataclass(frozen=True)
class Form:
    """How values are stored, sent and hashed.

    `arrow`: their type in the files. `oid`: the PostgreSQL type in which the server sends and hashes them. `width`: its
    size in bytes, None if it varies. `sql`: the expression that casts a column `{c}` to it, for use in a statement with
    parameters.
    """

    arrow: pa.DataType
    oid: int
    width: int | None
    sql: LiteralString


_FORMS = {
    "bool": Form(pa.bool_(), 16, 1, "{c}::pg_catalog.bool"),
    "int2": Form(pa.int16(), 21, 2, "{c}::pg_catalog.int2"),
    "int4": Form(pa.int32(), 23, 4, "{c}::pg_catalog.int4"),
    "int8": Form(pa.int64(), 20, 8, "{c}::pg_catalog.int8"),
    "float4": Form(pa.float32(), 700, 4, "{c}::pg_catalog.float4"),
    "float8": Form(pa.float64(), 701, 8, "{c}::pg_catalog.float8"),
    "date": Form(pa.date32(), 1082, 4, "{c}::pg_catalog.date"),
    "timestamp": Form(pa.timestamp("us"), 1114, 8, "{c}::pg_catalog.timestamp"),
    "timestamptz": Form(pa.timestamp("us", tz="UTC"), 1184, 8, "{c}::pg_catalog.timestamptz"),
    "uuid": Form(pa.uuid(), 2950, 16, "{c}::pg_catalog.uuid"),
    "bytea": Form(pa.binary(), 17, None, "{c}::pg_catalog.bytea"),
    "jsonb": Form(pa.string(), 3802, None, "{c}::pg_catalog.jsonb"),
    "text": Form(pa.string(), 25, None, "{c}::pg_catalog.text"),
    # Any other type: the text that it writes, and can read again.
    "as written": Form(pa.string(), 25, None, AS_WRITTEN),
}
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
_DECIMAL128_DIGITS = 38


def form_of(name: str) -> Form:
    """The form with a name from a manifest. Raises `LookupError` for an unknown name."""
    found = _NUMERIC.fullmatch(name)
    if found is None:
        return _FORMS[name]
    digits, scale = int(found[1]), int(found[2])
    if not 0 <= scale <= digits <= MOST_DIGITS:
        raise LookupError(name)
    kind = pa.decimal128 if digits <= _DECIMAL128_DIGITS else pa.decimal256
    # Sent as text: the binary format of numeric has digits to the base 10,000.
    return Form(kind(digits, scale), 25, None, "{c}::pg_catalog.numeric::pg_catalog.text")


@dataclass(frozen=True)
class Column:
    """A column of the table. `type`: as PostgreSQL spells it. `form`: the name of the `Form` of its values.
    `generated`: the server computes them."""

    name: str
    type: str
    form: str
    generated: bool = False


# The columns of schema.sql, which each chunk of `events` has. An archive of format 1 has no others.
STANDARD_COLUMNS = (
    Column("time", "timestamp with time zone", "timestamptz"),
    Column("event_id", "uuid", "uuid"),
    Column("event_type", "text", "text"),
    Column("user_id", "text", "text"),
    Column("properties", "jsonb", "jsonb"),
)
NEVER_NULL = ("time", "event_id", "event_type", "user_id")


def schema_of(columns: Sequence[Column], never_null: Sequence[str] = NEVER_NULL) -> pa.Schema:
    """The Arrow schema of the files of an archive with these columns. `never_null`: their columns without nulls."""
    plain = tuple(columns) == STANDARD_COLUMNS
    return pa.schema(
        pa.field(
            column.name,
            form_of(column.form).arrow,
            nullable=column.name not in never_null,
            metadata=None if plain else {PG_TYPE: column.type.encode()},
        )
        for column in columns
    )


def select_list(columns: Sequence[Column], table: LiteralString) -> sql.Composed:
    """The select list for rows of `table`, each value in its form, for a statement with parameters."""
    prefix = sql.Identifier(table)
    values = (
        sql.SQL(form_of(column.form).sql).format(
            c=sql.SQL("{}.{}").format(prefix, parameter_safe(sql.Identifier(column.name)))
        )
        for column in columns
    )
    return sql.SQL(", ").join(values)
