"""Rows that repeat a key of any columns, compared with a dictionary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.tables.table import TableColumn
from tasks.columns.repeated_keys import find_repeats, is_exact, mix
from tasks.columns.types.registry import type_of
from tests.support.type_cases import column_of

SMALL = st.integers(0, 2)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "uuid": (pa.binary(16), st.sampled_from([bytes(16), bytes(15) + b"\1", b"\1" + bytes(15)])),
    "text": (pa.binary(), st.sampled_from([b"", b"a", b"A", b"\0"])),
    "integer": (pa.int32(), SMALL | st.just(-1)),
    "bigint": (pa.int64(), SMALL | st.sampled_from([-(2**63), 2**63 - 1])),
    "boolean": (pa.bool_(), st.booleans()),
    "timestamp with time zone": (pa.timestamp("us", tz="UTC"), SMALL),
    "date": (pa.date32(), SMALL),
    "time without time zone": (pa.time64("us"), SMALL),
    "double precision": (pa.float64(), st.sampled_from([0.0, -0.0, 1.0])),
    "inet": (pa.string(), st.sampled_from(["10.0.0.1", "10.0.0.2"])),
}


@st.composite
def keys(draw: st.DrawFn) -> tuple[pa.RecordBatch, list[tuple[object, ...]]]:
    """A batch of keys, perhaps a slice, and what identifies each of them."""
    names = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=3))
    n = draw(st.integers(0, 12))
    columns, values = [], []
    for name in names:
        arrow, strategy = COLUMNS[name]
        drawn = draw(st.lists(strategy | st.none() if draw(st.booleans()) else strategy, min_size=n, max_size=n))
        values.append([None if value is None else repr(value) for value in drawn])
        columns.append(pa.array(drawn, arrow))
    rows = pa.RecordBatch.from_arrays(columns, names=[f"c{number}" for number in range(len(names))])
    start = draw(st.integers(0, n))
    stop = draw(st.integers(start, n))
    return rows.slice(start, stop - start), [tuple(column[row] for column in values) for row in range(start, stop)]


@settings(max_examples=400)
@given(keys(), st.randoms())
def test_every_repeat_is_found_with_the_first_of_its_key(batch: Any, random: Any) -> None:
    rows, identities = batch
    order = list(range(len(identities)))
    random.shuffle(order)
    stream_order = np.array(order, np.int64) * 10
    first: dict[tuple[object, ...], int] = {}
    expected = []
    for row in np.argsort(stream_order).tolist():
        if None in identities[row]:
            continue
        if identities[row] in first:
            expected.append((row, first[identities[row]]))
        first.setdefault(identities[row], row)
    found = find_repeats(rows, stream_order)
    assert (found is None) == (not expected)
    if found is not None:
        assert list(zip(found[0].tolist(), found[1].tolist(), strict=True)) == expected


def test_many_different_keys_repeat_nothing() -> None:
    n = 20_000
    rows = pa.RecordBatch.from_arrays(
        [pa.array([f"device {row % 7}".encode() for row in range(n)]), pa.array(np.arange(n) // 7)], names=["a", "b"]
    )
    assert find_repeats(rows, np.arange(n)) is None


@pytest.mark.parametrize("kind", [np.uint64, np.float64])
def test_different_keys_of_a_grid_have_different_numbers(kind: type[np.generic]) -> None:
    """Whole numbers as floats, too: only the upper bits of their words differ."""
    steps = [np.arange(100).astype(kind).view(np.uint64) for _ in range(2)]
    first, second = (one.ravel() for one in np.meshgrid(*steps))
    assert len(np.unique(mix([first, second]))) == 10_000
    assert len(np.unique(mix([first, second, first]))) == 10_000


@pytest.mark.parametrize("column", [pa.array([7, 7]), pa.array([b"k", b"k"]), pa.array([bytes(16)] * 2, pa.binary(16))])
def test_two_rows_with_one_key_repeat_it(column: pa.Array) -> None:
    rows = pa.RecordBatch.from_arrays([column, column], names=["a", "b"])
    found = find_repeats(rows, np.array([20, 10]))
    assert found is not None
    assert (found[0].tolist(), found[1].tolist()) == ([0], [1])


def test_the_uuids_of_a_slice_are_compared_with_each_other_only() -> None:
    ids = [1, 2, 1, 3, 2, 3, 1, 4]
    halves = [number.to_bytes(8, "big") for number in ids]
    column = pa.array([half + half for half in halves], pa.binary(16))
    whole = pa.RecordBatch.from_arrays([column], names=["id"])
    for start in range(len(ids)):
        for stop in range(start, len(ids) + 1):
            part = ids[start:stop]
            expected = [(row, part.index(one)) for row, one in enumerate(part) if one in part[:row]]
            found = find_repeats(whole.slice(start, stop - start), np.arange(len(part)))
            pairs = [] if found is None else list(zip(found[0].tolist(), found[1].tolist(), strict=True))
            assert pairs == expected


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        *[
            (name, True)
            for name in ("uuid", "integer", "bigint", "boolean", "date", "text", "character varying", "bytea")
        ],
        *[(name, True) for name in ("timestamp with time zone", "timestamp without time zone", "mood")],
        ("character varying", True),
        *[(name, False) for name in ("numeric", "real", "double precision", "character(3)", "character varying(3)")],
        *[(name, False) for name in ("timestamp(0) with time zone", "short", "positive", "jsonb", "inet", "integer[]")],
    ],
)
def test_keys_are_exact_if_equal_bytes_are_equal_values(name: str, exact: bool) -> None:
    kind = type_of(column_of(name))
    rows = pa.RecordBatch.from_arrays([pa.nulls(1, kind.arrow)], names=["c"])
    assert is_exact(rows, [kind]) == exact


def test_texts_for_the_server_are_not_exact() -> None:
    kind = type_of(TableColumn("c", "integer", "int4"))
    assert not is_exact(pa.RecordBatch.from_arrays([pa.array(["01"])], names=["c"]), [kind])
