"""One value, one text: the same rows give the same events, whatever file they are written in, by whatever program."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.mapping import ColumnSource, Mapping
from tasks.columns.decode import decode
from tasks.columns.uuids import NAMESPACE
from tasks.files.find import find_files
from tasks.files.scan import as_group, fitted
from tasks.files.verified_read import Reading
from tests.support.make_entries import ANY_TIME

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAPPING = Mapping(
    layout="flat",
    time=ColumnSource(("", "at", "")),
    event_id=ColumnSource(("", "sensor", "|", "at", "|", "number", "|", "reading", "|", "price", "")),
    event_type=ColumnSource(("seen at ", "at", "")),
    user_id=ColumnSource(("", "number", "")),
    properties="more",
    uuid5=True,
)


@dataclass(frozen=True)
class Measured:
    """A row. `at`: microseconds since 1970."""

    sensor: str
    at: int
    number: int
    reading: float
    price: Decimal

    @property
    def moment(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.at)


Event = tuple[int, bytes, bytes, bytes, Any]


def expected(row: Measured) -> Event:
    """What docs/mappings.md says of the row, by nothing of Spillway's."""
    fraction = row.at % 1_000_000
    digits = f".{fraction:06}" if fraction % 1000 else f".{fraction // 1000:03}" if fraction else ""
    at = f"{row.moment:%Y-%m-%dT%H:%M:%S}{digits}Z"
    text = f"{row.sensor}|{at}|{row.number}|{row.reading!r}|{row.price}"
    return row.at, uuid5(NAMESPACE, text).bytes, f"seen at {at}".encode(), str(row.number).encode(), {"n": row.number}


def table(rows: list[Measured], unit: str, zone: str | None = None) -> pa.Table:
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


def parquet(unit: str, zone: str | None = None, **options: Any) -> Callable[[list[Measured]], bytes]:
    def write(rows: list[Measured]) -> bytes:
        out = io.BytesIO()
        pq.write_table(table(rows, unit, zone), out, **options)
        return out.getvalue()

    return write


def arrow_csv(rows: list[Measured]) -> bytes:
    """With the numbers as text: a whole float is `42` here and `42.0` everywhere else."""
    out = io.BytesIO()
    numbers = pa.array([repr(row.reading) for row in rows], pa.string())
    pa.csv.write_csv(table(rows, "us").set_column(3, "reading", numbers), out)
    return out.getvalue()


def frame(rows: list[Measured], zone: str | None = None) -> pd.DataFrame:
    found = pd.DataFrame([row.__dict__ for row in rows])
    found["at"] = pd.DatetimeIndex(np.array(found["at"], "datetime64[us]"), tz=zone)
    found["more"] = [json.dumps({"n": row.number}) for row in rows]
    return found


def pandas_csv(zone: str | None) -> Callable[[list[Measured]], bytes]:
    return lambda rows: frame(rows, zone).to_csv(index=False).encode()


def json_lines(spell: Callable[[datetime], Any]) -> Callable[[list[Measured]], bytes]:
    def write(rows: list[Measured]) -> bytes:
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


FORMATS: dict[str, tuple[str, int, Callable[[list[Measured]], bytes]]] = {
    # name: (ending, the microseconds that a time of it is a multiple of, writer)
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

a_row = st.builds(
    Measured,
    sensor=st.text("abc-é", min_size=1, max_size=5),
    # After 1973-03: an earlier number of milliseconds would be one of seconds.
    at=st.integers(10**14, 4 * 10**15) | st.integers(10**8, 4 * 10**9).map(lambda seconds: seconds * 1_000_000),
    number=st.integers(-(2**53), 2**53),
    reading=st.floats(1e-4, 9e15) | st.integers(-(10**6), 10**6).map(float),
    price=st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents).scaleb(-2)),
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(a_row, min_size=1, max_size=20))
def test_the_same_rows_are_the_same_events_in_every_format(tmp_path: Path, name: str, rows: list[Measured]) -> None:
    ending, step, write = FORMATS[name]
    rows = [Measured(r.sensor, r.at // step * step, r.number, r.reading, r.price) for r in rows]
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(write(rows))
    assert events_of(path) == [expected(row) for row in rows]


def events_of(path: Path) -> list[Event]:
    (file,) = find_files(str(path))
    found: list[Event] = []
    for block in Reading(file, b"data"):
        group = as_group(block)
        events = decode([group], fitted(MAPPING, group.keys or ()), ANY_TIME)
        assert not events.faults
        for i in range(len(events)):
            row = (events.event_type[i].as_py(), events.user_id[i].as_py(), json.loads(events.properties[i].as_py()))
            found.append((int(events.time[i]), UUID(bytes=events.event_id[i].tobytes()).bytes, *row))
    return found
