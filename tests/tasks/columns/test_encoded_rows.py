"""Rows of any table as a COPY: defaults, keys that only the server can compare, and the faults of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from infra.mapping.column_source import key_source
from infra.mapping.stream_mapping import StreamMapping
from tasks.columns.decode import DecodedRows, Fault, decode
from tasks.columns.encode_rows import encode_rows
from tasks.columns.encoded_rows import EncodedRows, encode_parts
from tasks.columns.parts import Parts
from tasks.columns.row_layout import RowLayout, bind
from tests.support.decoded_entries import ANY_TIME, groups_of
from tests.support.small_layouts import column, table

MAPPING = StreamMapping(name="s", table="small", layout="flat")


def layout_of(*columns: Any, **changes: Any) -> RowLayout:
    return bind(MAPPING, table(*columns, **changes))


def entries_of(rows: Sequence[dict[str, str]]) -> list[list[bytes]]:
    return [[part.encode() for field in row.items() for part in field] for row in rows]


def encoded_of(layout: RowLayout, *rows: dict[str, str]) -> EncodedRows:
    return encode_parts(Parts(groups_of(entries_of(rows))), layout, ANY_TIME)


def sent(layout: RowLayout, encoded: EncodedRows, *rows: dict[str, str]) -> list[bytes]:
    """The bytes of these rows, with the columns that were sent."""
    decoded: DecodedRows = decode(groups_of(entries_of(rows)), layout, ANY_TIME)
    types = [layout.types[layout.names.index(name)] for name in encoded.columns]
    return list(encode_rows(decoded.rows.select(list(encoded.columns)), types).to_pylist())


A, B, C = column("a", "integer"), column("b", "text", default="now()"), column("c", "integer", default="7")


def test_a_column_with_a_default_is_not_sent_if_no_row_has_a_value() -> None:
    layout = layout_of(A, B, C)
    encoded = encoded_of(layout, {"a": "1"}, {"a": "2"})
    assert (encoded.columns, encoded.defaulted, encoded.binary) == (("a",), (), True)
    assert encoded.rows.to_pylist() == sent(layout, encoded, {"a": "1"}, {"a": "2"})
    assert encoded.rows.to_pylist() == [b"\0\1\0\0\0\4\0\0\0\1", b"\0\1\0\0\0\4\0\0\0\2"]


@pytest.mark.parametrize("count", [1, 300])
def test_a_column_without_a_value_is_not_sent_however_many_rows_there_are(count: int) -> None:
    encoded = encoded_of(layout_of(A, B, C), *[{"a": str(n)} for n in range(count)])
    assert (encoded.columns, len(encoded.rows)) == (("a",), count)


def test_one_column_is_sent_even_if_no_row_has_a_value() -> None:
    """A COPY without columns is a syntax error. The nulls stand for the default of the column."""
    layout = layout_of(B, C)
    encoded = encoded_of(layout, {"x": "1"}, {"y": "2"})
    assert (encoded.columns, encoded.defaulted) == (("b",), ("b",))
    assert encoded.rows.to_pylist() == [b"\0\1\xff\xff\xff\xff"] * 2


def test_the_nulls_of_a_column_that_some_rows_have_stand_for_its_default() -> None:
    layout = layout_of(A, B, C)
    rows = ({"a": "1", "b": "x", "c": "2"}, {"a": "2", "c": "3"}, {"b": "y", "c": "4"})
    encoded = encoded_of(layout, rows[0], {"a": "2", "c": "3", "b2": ""}, rows[2])
    assert (encoded.columns, encoded.defaulted) == (("a", "b", "c"), ("b",))
    assert sorted(encoded.rows.to_pylist()) == sorted(sent(layout, encoded, *rows))


def test_an_archive_that_is_restored_has_nulls_and_no_defaults() -> None:
    layout = replace(layout_of(A, B, C), restored=("a", "b", "c"))
    encoded = encoded_of(layout, {"a": "1"}, {"a": "2"})
    assert (encoded.columns, encoded.defaulted) == (("a", "b", "c"), ())


def test_a_key_column_is_always_sent() -> None:
    layout = layout_of(A, replace(B, nullable=True), keys=(("a", "b"),))
    encoded = encoded_of(layout, {"a": "1"}, {"a": "2"})
    assert (encoded.columns, encoded.defaulted, encoded.exact) == (("a", "b"), ("b",), False)


def test_without_a_key_equal_rows_are_as_many_rows() -> None:
    encoded = encoded_of(layout_of(A), {"a": "1"}, {"a": "1"})
    assert (len(encoded.rows), encoded.unique, list(encoded.repeats), encoded.exact) == (2, 2, [], True)
    assert encoded.times.tolist() == []
    assert (encoded.min_time, encoded.max_time) == (None, None)


def mixed(*rows: dict[str, str]) -> list[list[bytes]]:
    """Entries whose groups are not in the order of the stream: every second one has a field more."""
    return [[*entry, b"more", b""] if n % 2 else entry for n, entry in enumerate(entries_of(rows))]


@pytest.mark.parametrize(
    ("layout", "rows", "exact"),
    [
        (layout_of(A, keys=(("a",),)), [{"a": str(n)} for n in (1, 2, 1, 3)], True),
        (layout_of(column("a", "numeric"), keys=(("a",),)), [{"a": str(n)} for n in (1, 2, 1, 3)], False),
        (layout_of(column("a", "text", constrained=True), keys=(("a",),)), [{"a": n} for n in "xyxz"], False),
        (layout_of(A, keys=(("a",),)), [{"a": n} for n in ("1", " 2", "1", "3")], False),
        (layout_of(A, C, keys=(("a", "c"),)), [{"a": "1", "c": "1"}, {"a": "2"}, {"a": "1", "c": "1"}], False),
        (layout_of(A, column("c", "integer"), keys=(("a", "c"),)), [{"a": "1", "c": "1"}, {"a": "2"}], True),
        (
            layout_of(A, column("c", "integer"), keys=(("a", "c"),), nulls_equal=(("a", "c"),)),
            [{"a": "1", "c": "1"}, {"a": "2"}],
            False,
        ),
        (
            layout_of(A, column("c", "integer"), keys=(("a", "c"),), nulls_equal=(("a", "c"),)),
            [{"a": "1", "c": "1"}, {"a": "2", "c": "1"}],
            True,
        ),
        (layout_of(A, C, keys=(("a",),)), [{"a": "1", "c": "1"}, {"a": "2"}], True),
    ],
)
def test_rows_whose_keys_only_the_server_can_compare_are_all_kept_in_stream_order(
    layout: RowLayout, rows: list[dict[str, str]], exact: bool
) -> None:
    parts = Parts(groups_of(mixed(*rows)))
    encoded = encode_parts(parts, layout, ANY_TIME)
    assert encoded.exact == exact
    if exact:
        return
    assert (len(encoded.rows), encoded.unique, list(encoded.repeats)) == (len(rows), len(rows), [])
    ids = [entry_id for group in parts.groups for entry_id in group.ids.to_pylist()]
    assert [ids[entry] for entry in encoded.row_entry] == [b"%d-0" % n for n in range(1, len(rows) + 1)]
    expected = [sent(layout, encoded, row) for row in rows]
    if encoded.binary:
        assert [[row] for row in encoded.rows.to_pylist()] == expected


def test_a_text_for_the_server_makes_all_rows_text() -> None:
    encoded = encoded_of(layout_of(A, B), {"a": " 1", "b": "x"}, {"a": "2", "b": "y"})
    assert not encoded.binary
    assert encoded.rows.to_pylist() == [b" 1\tx\n", b"2\ty\n"]


def test_faults_of_what_could_not_be_taken_apart_come_first() -> None:
    layout = layout_of(replace(A, nullable=False))
    parts = Parts(groups_of(entries_of([{"x": "1"}, {"x": "2"}, {"a": "3"}])), faults={1: ("data", "the reason")})
    groups = parts.groups
    assert [group.ids.to_pylist() for group in groups] == [[b"1-0", b"2-0"], [b"3-0"]]
    encoded = encode_parts(parts, layout, ANY_TIME)
    assert list(encoded.faults) == [Fault(0, "a", "missing field a"), Fault(1, "data", "the reason")]
    assert encoded.row_entry.tolist() == [2]
    none = encode_parts(Parts(groups[:1], faults=parts.faults), layout, ANY_TIME)
    assert (len(none.rows), [fault.field for fault in none.faults]) == (0, ["a", "data"])


def test_repeats_name_rows_and_parts_whatever_their_order() -> None:
    layout = bind(replace(MAPPING, columns={"v": key_source("v")}), table(A, column("v", "text"), keys=(("a",),)))
    rows = [
        {"a": "5", "v": "x"},
        {"a": "6", "v": "x"},
        {"a": "5", "v": "x"},
        {"a": "5", "v": "y"},
        {"a": "6", "v": "z"},
    ]
    rows += [{"a": "6", "v": "x"}]
    encoded = encoded_of(layout, *rows)
    assert encoded.unique == 2
    assert encoded.row_entry.tolist() == [0, 1, 3, 4]
    assert list(encoded.repeats) == [(0, 2), (1, 5)]
    assert isinstance(encoded.rows, pa.Array)
    assert encoded.rows.to_pylist() == sent(layout, encoded, rows[0], rows[1], rows[3], rows[4])
