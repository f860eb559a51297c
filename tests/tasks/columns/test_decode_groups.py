"""Entries of several groups as one batch of rows, and the times that a row may lack."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from infra.mapping.stream_mapping import StreamMapping
from tasks.columns.decode import DecodedRows, TimeWindow, decode
from tasks.columns.row_layout import bind
from tests.support.decoded_entries import ANY_TIME, TIME, TIME_US, groups_of
from tests.support.small_layouts import column, layout_of, table


def of_fields(layout: Any, *entries: dict[str, str], window: TimeWindow = ANY_TIME) -> DecodedRows:
    fields = [[part.encode() for pair in entry.items() for part in pair] for entry in entries]
    return decode(groups_of(fields), layout, window)


@pytest.mark.parametrize(
    ("kind", "understood", "text", "other"),
    [
        ("integer", "007", "7", " 42 "),
        ("boolean", "yes", "true", " no "),
        ("real", "1.50", "1.5", " 2 "),
        ("macaddr", "FF:fe:00:00:00:A0", "fffe000000a0", "08002b010203"),
        ("time without time zone", "12:34", "12:34:00.000000", "24:00"),
    ],
)
def test_values_are_texts_if_the_server_must_read_those_of_another_group(
    kind: str, understood: str, text: str, other: str
) -> None:
    layout = layout_of({"a": kind, "b": "text"})
    alone = of_fields(layout, {"a": understood}, {"a": understood, "b": "x"})
    assert alone.rows.column("a").type == layout.columns[0].type.arrow
    both = of_fields(layout, {"a": understood}, {"a": other, "b": "x"})
    assert (both.rows.column("a").type, both.rows.column("a").to_pylist()) == (pa.string(), [text, other])


def test_a_row_without_a_time_is_in_every_window_if_the_table_has_a_default_for_it() -> None:
    at = column("at", "timestamp with time zone", nullable=False, default="now()")
    target = table(at, column("n", "integer"), time="at")
    layout = bind(StreamMapping("s", "small", null=("",)), target)
    entries = [{"at": time, "n": str(n)} for n, time in enumerate((TIME, "", "x", TIME, "2023-01-01"))]
    rows = of_fields(layout, *entries, window=TimeWindow(TIME_US, TIME_US))
    assert (rows.rows.column("n").to_pylist(), [fault.entry for fault in rows.faults]) == ([0, 1, 3], [2, 4])
