"""Rows of any columns as a COPY, read back by a reader of the format."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.encode_rows import encode_binary, encode_rows, needs_text, payload
from tasks.columns.types.column_type import ColumnType
from tasks.columns.types.registry import type_of
from tests.support.type_cases import BINARY_TEXTS, column_of
from tests.support.type_server import SOURCE


@st.composite
def batches(draw: st.DrawFn) -> tuple[pa.RecordBatch, list[ColumnType]]:
    """Some columns of any types, with nulls, in a batch that may be a slice."""
    names = draw(st.lists(st.sampled_from(list(BINARY_TEXTS)), min_size=1, max_size=7))
    n = draw(st.integers(0, 6))
    types, columns = [], []
    for name in names:
        kind = type_of(column_of(name))
        nulls = draw(st.sampled_from([0, 0.3, 1]))
        value = (
            st.none() if nulls == 1 else st.sampled_from(BINARY_TEXTS[name]) | (st.none() if nulls else st.nothing())
        )
        texts = draw(st.lists(value, min_size=n, max_size=n))
        parsed = kind.parse(pa.array(texts, pa.string()), SOURCE)
        types.append(kind)
        columns.append(parsed.values)
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{number}" for number in range(len(names))])
    start = draw(st.integers(0, n))
    return rows.slice(start, draw(st.integers(0, n - start))), types


def fields_of(row: bytes) -> list[bytes | None]:
    """The fields of a row of a binary COPY."""
    (count,) = struct.unpack_from("!h", row)
    at = 2
    fields: list[bytes | None] = []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", row, at)
        at += 4
        fields.append(None if length == -1 else row[at : at + length])
        at += max(length, 0)
    assert at == len(row)
    return fields


def values_of(column: pa.Array, kind: ColumnType) -> list[bytes | None]:
    """The bytes of each value as its type encodes it."""
    encoded = kind.encode(column)
    values = [row.tobytes() for row in encoded] if isinstance(encoded, np.ndarray) else encoded.to_pylist()
    valid = column.is_valid().to_pylist()
    return [kind.prefix + value if ok else None for ok, value in zip(valid, values, strict=True)]


@settings(max_examples=300)
@given(batches())
def test_each_field_has_its_length_and_the_bytes_of_its_value(batch: tuple[pa.RecordBatch, list[ColumnType]]) -> None:
    rows, types = batch
    encoded = encode_binary(rows, types)
    assert encoded.type == pa.binary()
    assert encoded.null_count == 0
    assert payload(encoded).tobytes() == b"".join(encoded.to_pylist())
    expected = [values_of(column, kind) for column, kind in zip(rows.columns, types, strict=True)]
    assert [fields_of(row) for row in encoded.to_pylist()] == [list(row) for row in zip(*expected, strict=True)]


def test_a_prefix_counts_in_the_length_of_a_value_and_a_null_has_neither() -> None:
    kind = type_of(column_of("jsonb"))
    rows = pa.RecordBatch.from_arrays(
        [kind.parse(pa.array(["5", None, "[1]", "{}"]), SOURCE).values] * 2, names=["a", "b"]
    )
    values = [b"\x015", None, b"\x01[1]", b"\x01{}"]
    assert [fields_of(row) for row in encode_binary(rows, [kind] * 2).to_pylist()] == [[value] * 2 for value in values]


def test_one_column_for_the_server_makes_the_rows_text() -> None:
    types = [type_of(column_of(name)) for name in ("integer", "interval", "timestamp with time zone")]
    texts = [["1", None], ["1 day", None], ["2024-02-29T12:00:00Z", "infinity"]]
    columns = [kind.parse(pa.array(column), SOURCE).values for kind, column in zip(types, texts, strict=True)]
    rows = pa.RecordBatch.from_arrays(columns, names=["a", "b", "c"])
    assert needs_text(rows, types)
    assert encode_rows(rows, types).to_pylist() == [b"1\t1 day\t2024-02-29T12:00:00Z\n", b"\\N\t\\N\tinfinity\n"]
    nulls = pa.RecordBatch.from_arrays([columns[0], type_nulls(types[1], 2), columns[2]], names=["a", "b", "c"])
    assert not needs_text(nulls, types)


@pytest.mark.parametrize(
    ("name", "text"),
    [("bytea", "é"), ("time without time zone", "24:00"), ("macaddr", "08002b010203"), ("numeric", "1e5")],
)
def test_texts_for_the_server_are_sent_as_they_are(name: str, text: str) -> None:
    kind = type_of(column_of(name))
    rows = pa.RecordBatch.from_arrays([kind.parse(pa.array([text, None]), SOURCE).values], names=["a"])
    assert encode_rows(rows, [kind]).to_pylist() == [text.encode() + b"\n", b"\\N\n"]


def type_nulls(kind: ColumnType, n: int) -> pa.Array:
    return kind.parse(pa.nulls(n, pa.string()), SOURCE).values
