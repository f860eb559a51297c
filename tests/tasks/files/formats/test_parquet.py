"""Parquet: every row is read under its number, however the file was written."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors.exceptions import Terminal
from tasks.columns.column_forms import STANDARD_COLUMNS, schema_of
from tasks.files.find import SourceFile, find_files
from tasks.files.formats import parquet
from tasks.files.formats.read_rows import read_rows
from tests.support.source_files import fields_of

START = datetime(2024, 1, 1, tzinfo=UTC)


def a_file(folder: Path, table: pa.Table, **options: Any) -> SourceFile:
    path = folder / "x.parquet"
    pq.write_table(table, path, **options)
    (file,) = find_files(str(path))
    return file


@given(
    rows=st.lists(
        st.tuples(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), st.integers(0, 99))
    ),
    group=st.integers(1, 9),
    batch=st.integers(1, 9),
    block=st.integers(1, 60),
    most=st.integers(1, 9),
    dictionary=st.booleans(),
    compression=st.sampled_from(["none", "snappy", "zstd", "gzip"]),
)
def test_every_row_is_read_under_its_number(
    rows: list[tuple[str | None, int]],
    group: int,
    batch: int,
    block: int,
    most: int,
    dictionary: bool,
    compression: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    table = pa.table(
        {"s": pa.array([s for s, _ in rows], pa.string()), "n": pa.array([n for _, n in rows], pa.int64())}
    )
    file = a_file(
        tmp_path_factory.mktemp("parquet"),
        table,
        row_group_size=group,
        use_dictionary=dictionary,
        compression=compression,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_BATCH_ROWS", batch)
        patch.setattr(parquet, "_BLOCK_BYTES", block)
        patch.setattr(parquet, "MOST_ROWS", most)
        found = fields_of(read_rows(file))
    assert found == {
        number: {b"n": b"%d" % n} if s is None else {b"s": s.encode(), b"n": b"%d" % n}
        for number, (s, n) in enumerate(rows, 1)
    }


def test_a_file_of_the_archive_needs_no_mapping(tmp_path: Path) -> None:
    """`tasks.archive` writes columns that are the fields of a flat entry."""
    n = 10_000
    table = pa.table(
        [
            pa.array(
                [START + timedelta(microseconds=i) for i in range(n)], schema_of(STANDARD_COLUMNS).field("time").type
            ),
            pa.ExtensionArray.from_storage(
                pa.uuid(), pa.array([i.to_bytes(16, "big") for i in range(n)], pa.binary(16))
            ),
            pa.array(["click"] * n),
            pa.array([f"u{i % 9}" for i in range(n)]),
            pa.array([None if i % 2 else f'{{"n": {i}.0}}' for i in range(n)]),
        ],
        schema=schema_of(STANDARD_COLUMNS),
    )
    found = fields_of(read_rows(a_file(tmp_path, table, compression="zstd", use_dictionary=["event_type", "user_id"])))
    assert list(found) == list(range(1, n + 1))
    assert found[8] == {
        b"time": b"2024-01-01T00:00:00.000007Z",
        b"event_id": b"00000000-0000-0000-0000-000000000007",
        b"event_type": b"click",
        b"user_id": b"u7",
    }
    assert found[9][b"properties"] == b'{"n": 8.0}'


def test_a_block_is_bounded_by_bytes_and_by_rows(tmp_path: Path) -> None:
    """The bound also holds if a large value is stored once and repeated in each row."""
    table = pa.table({"s": ["x" * 10_000] * 20_000})
    blocks = list(read_rows(a_file(tmp_path, table)))
    assert sum(map(len, blocks)) == 20_000
    assert max(sum(array.nbytes for array in rows.values) for rows in blocks) < 48 << 20
    blocks = list(read_rows(a_file(tmp_path, pa.table({"n": range(200_000)}))))
    assert max(map(len, blocks)) <= 65_536
    assert len(blocks) <= 5


def test_a_file_without_rows_is_read_as_empty(tmp_path: Path) -> None:
    assert list(read_rows(a_file(tmp_path, pa.table({"s": pa.array([], pa.string())})))) == []


def test_duplicate_column_names_and_files_without_columns_are_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(Terminal, match=r"x.parquet: expected columns with different names, found 'a', 'a'; .*; write"):
        list(read_rows(a_file(tmp_path, twice)))
    with pytest.raises(Terminal, match="expected columns with different names, found no columns"):
        list(read_rows(a_file(tmp_path, pa.table({}))))


def test_int96_times_of_any_year_keep_their_year(tmp_path: Path) -> None:
    """In nanoseconds, the default unit for INT96, the year 2611 becomes 2026 and 1500 becomes 2084."""
    times = [datetime(year, 1, 2, 3, 4, 5, 678901) for year in (1, 1500, 1677, 1970, 2024, 2262, 2611, 9999)]
    unit = pa.timestamp("us")
    table = pa.table(
        {
            "t": pa.array(times, unit),
            "l": pa.array([[time] for time in times], pa.list_(unit)),
            "s": pa.array([{"t": time} for time in times], pa.struct([("t", unit)])),
            "m": pa.array([[("k", time)] for time in times], pa.map_(pa.string(), unit)),
        }
    )
    file = a_file(tmp_path, table, use_deprecated_int96_timestamps=True)
    found = list(fields_of(read_rows(file)).values())
    texts = [f"{time:%m-%dT%H:%M:%S.%fZ}" for time in times]
    texts = [f"{time.year:04}-{text}" for time, text in zip(times, texts, strict=True)]
    assert [fields[b"t"].decode() for fields in found] == texts
    assert [json.loads(fields[b"l"]) for fields in found] == [[text] for text in texts]
    assert [json.loads(fields[b"s"]) for fields in found] == [{"t": text} for text in texts]
    assert [json.loads(fields[b"m"]) for fields in found] == [{"k": text} for text in texts]


def with_day(path: Path, day: int, other: int) -> None:
    """Replace one day by another in all INT96 values. Both are days since 1970."""
    data = path.read_bytes()
    before, after = (struct.pack("<qI", 3_661_000_000_000, day + 2_440_588) for day in (day, other))
    assert data.count(before)
    path.write_bytes(data.replace(before, after))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("day", [-2_440_587, 106_751_990, 106_751_992, 200_000_000, 2**32 - 1 - 2_440_588])
def test_int96_times_outside_the_range_of_microseconds_are_refused(day: int, nested: bool, tmp_path: Path) -> None:
    """They would wrap: the year 294248 becomes -290307, and others become any year, even the current one."""
    times = [*[None] * 5000, START.replace(hour=1, minute=1, second=1, tzinfo=None)]
    unit = pa.timestamp("us")
    columns = {"n": pa.array(range(5001)), "plain": pa.array([START.replace(tzinfo=None)] * 5001, unit)}
    if nested:
        values = [[{"t": time}] if time else None for time in times]
        columns["odd.one"] = pa.array(values, pa.list_(pa.struct([("t", unit)])))
    else:
        columns["odd.one"] = pa.array(times, unit)
    options = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    file = a_file(tmp_path, pa.table(columns), use_deprecated_int96_timestamps=True, **options)
    with_day(tmp_path / "x.parquet", (START - datetime(1970, 1, 1, tzinfo=UTC)).days, day)
    if day <= 106_751_990:
        if nested:  # JSON has no years outside 1 to 9999
            with pytest.raises(Terminal, match="date value out of range"):
                list(read_rows(file))
            return
        (text,) = (
            fields[b"odd.one"].decode() for fields in fields_of(read_rows(file)).values() if b"odd.one" in fields
        )
        expected = str(np.datetime64(day, "D") + np.timedelta64(3661, "s")) + "Z"
        assert text == expected
        return
    with pytest.raises(
        Terminal, match=r"-290308 to 294247, found one outside them in column 'odd\.one' \(INT96\), rows 4097 to 5001"
    ):
        list(read_rows(file))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_keep_their_year(unit: str, tmp_path: Path) -> None:
    """The dates span the whole range of each unit; nanoseconds end in 2262."""
    years = (1678, 2261) if unit == "ns" else (1, 1500, 2611, 9999)
    times = [datetime(year, 1, 2, 3, 4, 5) for year in years]
    file = a_file(tmp_path, pa.table({"t": pa.array(times, pa.timestamp(unit))}))
    found = [fields[b"t"].decode() for fields in fields_of(read_rows(file)).values()]
    assert found == [f"{time.year:04}-01-02T03:04:05Z" for time in times]
