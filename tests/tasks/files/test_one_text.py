"""The same rows give the same events in every format and from every writer."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.mapping.column_source import ColumnSource, key_source
from tasks.columns.decode import decode
from tasks.columns.uuids import NAMESPACE
from tasks.files.find import find_files
from tasks.files.scan import fit_layout, rows_to_entries
from tasks.files.verified_read import VerifiedRead
from tests.support.decoded_entries import ANY_TIME, Events
from tests.support.events_layouts import FLAT, with_sources
from tests.support.measurements import FORMATS, Measurement

LAYOUT = with_sources(
    FLAT,
    time=key_source("at"),
    event_id=ColumnSource(
        ("", "sensor", "|", "at", "|", "number", "|", "reading", "|", "price", ""), namespace=NAMESPACE
    ),
    event_type=ColumnSource(("seen at ", "at", "")),
    user_id=key_source("number"),
    properties=key_source("more"),
)


Event = tuple[int, bytes, bytes, bytes, Any]


def expected(row: Measurement) -> Event:
    """The expected entry by docs/reference/mapping.md, computed without Spillway."""
    fraction = row.at % 1_000_000
    digits = f".{fraction:06}" if fraction % 1000 else f".{fraction // 1000:03}" if fraction else ""
    at = f"{row.moment:%Y-%m-%dT%H:%M:%S}{digits}Z"
    text = f"{row.sensor}|{at}|{row.number}|{row.reading!r}|{row.price}"
    return row.at, uuid5(NAMESPACE, text).bytes, f"seen at {at}".encode(), str(row.number).encode(), {"n": row.number}


a_row = st.builds(
    Measurement,
    sensor=st.text("abc-é", min_size=1, max_size=5),
    # After 1973-03: smaller numbers are read as seconds, not as milliseconds.
    at=st.integers(10**14, 4 * 10**15) | st.integers(10**8, 4 * 10**9).map(lambda seconds: seconds * 1_000_000),
    number=st.integers(-(2**53), 2**53),
    reading=st.floats(1e-4, 9e15) | st.integers(-(10**6), 10**6).map(float),
    price=st.integers(-(10**9), 10**9).map(lambda cents: Decimal(cents).scaleb(-2)),
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(a_row, min_size=1, max_size=20))
def test_the_same_rows_are_the_same_events_in_every_format(tmp_path: Path, name: str, rows: list[Measurement]) -> None:
    ending, step, write = FORMATS[name]
    rows = [Measurement(r.sensor, r.at // step * step, r.number, r.reading, r.price) for r in rows]
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(write(rows))
    assert events_of(path) == [expected(row) for row in rows]


def events_of(path: Path) -> list[Event]:
    (file,) = find_files(str(path))
    found: list[Event] = []
    for block in VerifiedRead(file, b"data"):
        group = rows_to_entries(block)
        rows = decode([group], fit_layout(LAYOUT, group.keys or ()), ANY_TIME)
        events = Events(rows, rows.entry, list(rows.faults))
        assert not events.faults
        for i in range(len(events)):
            row = (events.event_type[i].as_py(), events.user_id[i].as_py(), json.loads(events.properties[i].as_py()))
            found.append((int(events.time[i]), UUID(bytes=events.event_id[i].tobytes()).bytes, *row))
    return found
