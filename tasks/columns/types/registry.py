"""The type of every column: one that Spillway encodes, else one whose texts the server casts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import pyarrow as pa

from infra.tables.table import TableColumn
from tasks.columns.types.arrays import Array
from tasks.columns.types.bytea import BYTEA
from tasks.columns.types.column_type import ColumnType
from tasks.columns.types.decimals import NUMERIC
from tasks.columns.types.floats import FLOAT4, FLOAT8
from tasks.columns.types.integers import BOOL, INT2, INT4, INT8
from tasks.columns.types.network_types import CIDR, INET, MACADDR
from tasks.columns.types.temporal import DATE, TIMESTAMP, TIMESTAMPTZ
from tasks.columns.types.text_types import BPCHAR, JSON, JSONB, TEXT, TextLane, text_type
from tasks.columns.types.time_of_day import TIME
from tasks.columns.types.uuid_type import UUID

_TYPES: Mapping[str, ColumnType] = {
    "bool": BOOL,
    "int2": INT2,
    "int4": INT4,
    "int8": INT8,
    "float4": FLOAT4,
    "float8": FLOAT8,
    "numeric": NUMERIC,
    "text": TEXT,
    "varchar": TEXT,
    "bpchar": BPCHAR,
    "json": JSON,
    "jsonb": JSONB,
    "bytea": BYTEA,
    "uuid": UUID,
    "timestamptz": TIMESTAMPTZ,
    "timestamp": TIMESTAMP,
    "date": DATE,
    "time": TIME,
    "inet": INET,
    "cidr": CIDR,
    "macaddr": MACADDR,
}

# Of element types in pg_type:
# https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat
_OIDS = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "json": 114,
    "cidr": 650,
    "float4": 700,
    "float8": 701,
    "macaddr": 829,
    "inet": 869,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "time": 1083,
    "timestamp": 1114,
    "timestamptz": 1184,
    "numeric": 1700,
    "uuid": 2950,
    "jsonb": 3802,
}
_JUDGED = ("date", "timestamp", "timestamptz", "uuid")


@lru_cache(maxsize=4096)
def type_of(column: TableColumn) -> ColumnType:
    """The type of a column."""
    if column.kind == "e":
        found: ColumnType = text_type(f"a value of {column.type}", exact=True)
    elif column.base.startswith("_"):
        found = _array(column.base.removeprefix("_"), column.type)
    else:
        found = _TYPES.get(column.base) or TextLane(pa.null(), f"a value of {column.type}")
    # A modifier or a domain may change or reject a value.
    return replace(found, exact=False) if column.constrained else found


def _array(base: str, name: str) -> ColumnType:
    element = _TYPES.get(base) or TextLane(pa.null(), "")
    return Array(
        pa.list_(element.arrow),
        f"a JSON array or an array literal, of {name}",
        element=element,
        oid=_OIDS.get(base),
        judged=base in _JUDGED,
        of_json=base in ("json", "jsonb"),
    )
