"""The same rows written to files of every format, by several libraries."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Measurement:
    """A row. `at`: microseconds since 1970."""

    sensor: str
    at: int
    number: int
    reading: float
    price: Decimal

    @property
    def moment(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.at)


def table(rows: list[Measurement], unit: str, zone: str | None = None) -> pa.Table:
    micros = pa.array([row.at for row in rows], pa.int64()).view(pa.timestamp("us"))
    return pa.table(
        {
            "sensor": [row.sensor for row in rows],
            "at": micros.cast(pa.timestamp(unit)).cast(pa.timestamp(unit, zone)),
            "number": pa.array([row.number for row in rows], pa.int64()),
            "reading": pa.array([row.reading for row in rows], pa.float64()),
            "price": pa.array([row.price for row in rows], pa.decimal128(12, 2)),
            "more": [json.dumps({"n": row.number}) for row in rows],
        }
    )


def parquet(unit: str, zone: str | None = None, **options: Any) -> Callable[[list[Measurement]], bytes]:
    def write(rows: list[Measurement]) -> bytes:
        out = io.BytesIO()
        pq.write_table(table(rows, unit, zone), out, **options)
        return out.getvalue()

    return write


def arrow_csv(rows: list[Measurement]) -> bytes:
    """CSV by Arrow, with floats as text: Arrow writes a whole float as `42`, and all others write `42.0`."""
    out = io.BytesIO()
    numbers = pa.array([repr(row.reading) for row in rows], pa.string())
    pa.csv.write_csv(table(rows, "us").set_column(3, "reading", numbers), out)
    return out.getvalue()


def frame(rows: list[Measurement], zone: str | None = None) -> pd.DataFrame:
    found = pd.DataFrame([row.__dict__ for row in rows])
    found["at"] = pd.DatetimeIndex(np.array(found["at"], "datetime64[us]"), tz=zone)
    found["more"] = [json.dumps({"n": row.number}) for row in rows]
    return found


def pandas_csv(zone: str | None) -> Callable[[list[Measurement]], bytes]:
    return lambda rows: frame(rows, zone).to_csv(index=False).encode()


def json_lines(spell: Callable[[datetime], Any]) -> Callable[[list[Measurement]], bytes]:
    def write(rows: list[Measurement]) -> bytes:
        lines = []
        for row in rows:
            document = {"sensor": row.sensor, "at": spell(row.moment), "number": row.number, "reading": row.reading}
            text = json.dumps(document | {"price": "@", "more": {"n": row.number}})
            lines.append(text.replace('"@"', str(row.price)))
        return "\n".join(lines).encode()

    return write


def duckdb_spelling(moment: datetime) -> str:
    text = f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    return text.rstrip("0").rstrip(".")


FORMATS: dict[str, tuple[str, int, Callable[[list[Measurement]], bytes]]] = {
    # name: (file ending, resolution of its times in microseconds, writer)
    "Parquet, ms": ("parquet", 1000, parquet("ms")),
    "Parquet, us": ("parquet", 1, parquet("us")),
    "Parquet, ns": ("parquet", 1, parquet("ns")),
    "Parquet, ns with a zone": ("parquet", 1, parquet("ns", "Europe/Berlin")),
    "Parquet, INT96": ("parquet", 1, parquet("ns", use_deprecated_int96_timestamps=True)),
    "Parquet, seconds": ("parquet", 1_000_000, parquet("s")),
    "CSV of pandas": ("csv", 1, pandas_csv(None)),
    "CSV of pandas, with a zone": ("csv", 1, pandas_csv("UTC")),
    "CSV of Arrow": ("csv", 1, arrow_csv),
    "NDJSON, ISO": ("ndjson", 1, json_lines(lambda at: at.isoformat())),
    "NDJSON, as DuckDB": ("ndjson", 1, json_lines(duckdb_spelling)),
    "NDJSON, as JavaScript": (
        "ndjson",
        1000,
        json_lines(lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    ),
    "NDJSON, ms since 1970": ("ndjson", 1000, json_lines(lambda at: (at - EPOCH) // timedelta(milliseconds=1))),
}
