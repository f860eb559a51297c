"""Random rows as files: CSV, NDJSON and Parquet with typed columns, each with the entry that the oracle judges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.any_table.columns import Column
from tests.any_table.entries import Row, Rows, array_literal
from tests.any_table.tables import RandomTable
from tests.any_table.values import DAYS, FIRST_DAY

Fields = list[bytes]


def write_ndjson(path: Path, rows: Rows, count: int) -> list[Fields]:
    """Write documents, a line each."""
    lines = [rows.document(rows.row()).replace(b"\n", b" ").replace(b"\r", b" ") for _ in range(count)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return [[b"data", line] for line in lines]


def write_csv(path: Path, rows: Rows, keys: Sequence[str], count: int) -> list[Fields]:
    """Write records with a value for each key, or nothing."""
    found = [_named(rows, rows.row()) for _ in range(count)]
    lines = [_record([None if key == "" else key for key in keys])]
    lines += [_record([row.get(key) for key in keys]) for row in found]
    path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    return [[part.encode() for pair in row.items() for part in pair] for row in found]


def _named(rows: Rows, row: Row) -> dict[str, str]:
    fields = rows.flat(row)
    named = dict(zip(fields[::2], fields[1::2], strict=True))
    return {key.decode(): value.decode() for key, value in named.items() if key != b"no such column"}


def _record(values: Sequence[str | None]) -> str:
    return ",".join("" if value is None else '"' + value.replace('"', '""') + '"' for value in values)


@dataclass(frozen=True)
class TypedColumn:
    """A type of Parquet for a column: how values are drawn, and the text that each has by docs/reference/mapping.md."""

    arrow: pa.DataType
    draw: Callable[[Random], Any]
    text: Callable[[Any], str]


def _float_text(value: float) -> str:
    return repr(value) if math.isfinite(value) else str(value)


def _iso(moment: datetime) -> str:
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if moment.microsecond:
        text += f".{moment.microsecond:06}".removesuffix("000")
    return text + "Z"


def _moment(random: Random) -> datetime:
    fraction = random.choice((0, 0, random.randrange(1000) * 1000, random.randrange(10**6)))
    return FIRST_DAY + timedelta(seconds=random.randrange(DAYS * 86_400), microseconds=fraction)


def _day(random: Random) -> date:
    return (FIRST_DAY + timedelta(days=random.randrange(DAYS))).date()


def _of(random_choice: Sequence[Any]) -> Callable[[Random], Any]:
    return lambda random: random.choice(random_choice)


_INTEGERS = TypedColumn(pa.int64(), lambda r: r.choice((r.randint(1, 40), r.randint(-40_000, 40_000), 2**40)), str)
_FEW = TypedColumn(pa.int32(), lambda r: r.randint(1, 40), str)
_FLOATS = TypedColumn(
    pa.float64(), lambda r: r.choice((r.randint(-99, 99) / 4, r.random() * 100, 1e300, math.nan)), _float_text
)
_DECIMALS = TypedColumn(pa.decimal128(9, 3), lambda r: Decimal(r.randint(-2_000_000, 2_000_000)).scaleb(-3), str)
_BOOLS = TypedColumn(pa.bool_(), _of((True, False)), lambda value: "true" if value else "false")
_MOMENTS = TypedColumn(pa.timestamp("us", "UTC"), _moment, _iso)
_CLOCKS = TypedColumn(
    pa.time64("us"), lambda r: time(r.randrange(24), r.randrange(60), r.randrange(60)), time.isoformat
)
_DATES = TypedColumn(pa.date32(), _day, date.isoformat)
_BYTES = TypedColumn(pa.binary(), lambda r: r.randbytes(r.randint(0, 6)), lambda value: "\\x" + value.hex())
# The typed columns that a column with this pool may have. All others are text.
TYPED: dict[str, TypedColumn] = {
    **dict.fromkeys(("int2", "int4", "int8"), _INTEGERS),
    **dict.fromkeys(("positive", "tiny", "small"), _FEW),
    **dict.fromkeys(("float4", "float8", "numeric"), _FLOATS),
    "decimal": _DECIMALS,
    "bool": _BOOLS,
    "timestamptz": _MOMENTS,
    "timestamp": _MOMENTS,
    "time": _CLOCKS,
    "date": _DATES,
    "bytea": _BYTES,
}


def write_parquet(path: Path, random: Random, table: RandomTable, rows: Rows, count: int) -> list[Fields]:
    """Write the filled columns of a table, most of them in a type of Parquet's own. No keys are renamed."""
    drawn = [rows.row() for _ in range(count)]
    columns: dict[str, pa.Array] = {}
    texts: list[dict[str, str]] = [{} for _ in drawn]
    for column in table.filled:
        typed = TYPED.get(column.pool)
        if typed is not None and random.random() < 0.8:
            values = [None if random.random() < 0.05 else _value(random, column, typed) for _ in drawn]
            shown = [None if value is None else typed.text(value) for value in values]
            columns[column.name] = pa.array(values, typed.arrow)
        elif column.pool == "int4[]":
            values = [None if random.random() < 0.1 else _integers(random) for _ in drawn]
            shown = [None if value is None else json.dumps(value) for value in values]
            columns[column.name] = pa.array(values, pa.list_(pa.int64()))
        else:
            shown = [_text(row.get(column.name)) for row in drawn]
            columns[column.name] = pa.array(shown, pa.string())
        for text, value in zip(texts, shown, strict=True):
            if value is not None:
                text[column.name] = value
    pq.write_table(pa.table(columns), path)
    return [[part.encode() for pair in text.items() for part in pair] for text in texts]


def _value(random: Random, column: Column, typed: TypedColumn) -> Any:
    if column.key and typed is _MOMENTS:
        return FIRST_DAY + timedelta(days=random.randrange(DAYS))
    return typed.draw(random)


def _integers(random: Random) -> list[int | None]:
    return [None if random.random() < 0.2 else random.randint(-9, 9) for _ in range(random.randint(0, 4))]


def _text(value: Any) -> str | None:
    return array_literal(value) if isinstance(value, list) else value
