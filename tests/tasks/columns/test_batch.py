"""A batch: its rows, its repeats, its faults, and what becomes of them when it is split or refuses times."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest

from infra.mapping.column_source import key_source
from infra.tables.table import TableColumn
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import RefusedTimes
from tasks.columns.encoded_rows import EncodedRows, encode_parts
from tasks.columns.parts import Parts
from tasks.columns.row_layout import bind
from tests.support.decoded_entries import ANY_TIME, TIME_US, document, flat, groups_of
from tests.support.events_layouts import ANY, EVENTS, FLAT

HOUR_US = 3_600_000_000


def numbered(number: int, **changes: str) -> list[bytes]:
    return flat(event_id=str(uuid.UUID(int=number)), **changes)


def encoded_of(entries: list[list[bytes]]) -> EncodedRows:
    return encode_parts(Parts(groups_of(entries)), ANY, ANY_TIME)


def batch_of(entries: list[list[bytes]], ids: IdRange | None = None) -> Batch:
    """A batch of entries with the ids 1-0, 2-0 and so on."""
    ids = ids or IdRange(1 << 64, (len(entries) + 1) << 64)
    return Batch("s", ids, groups_of(entries), ANY, ANY_TIME)


def ids_of(batch: Batch) -> list[str]:
    return sorted(batch.raw(entry)[0] for entry in range(batch.read))


def test_entries_with_different_keys_are_rows_in_order() -> None:
    encoded = encoded_of([numbered(1), numbered(2), numbered(3)])
    assert (len(encoded.rows), encoded.unique) == (3, 3)
    assert encoded.row_entry.tolist() == [0, 1, 2]
    assert (list(encoded.repeats), list(encoded.faults)) == ([], [])
    assert encoded.times.tolist() == [TIME_US] * 3


def test_a_repeat_with_the_same_bytes_has_no_row_and_names_the_row_it_repeats() -> None:
    entries = [numbered(1), numbered(2), numbered(1), numbered(3), numbered(2), numbered(1)]
    encoded = encoded_of(entries)
    assert (len(encoded.rows), encoded.unique) == (3, 3)
    assert encoded.row_entry.tolist() == [0, 1, 3]
    assert sorted(encoded.repeats) == [(0, 2), (0, 5), (1, 4)]
    assert encoded.times.tolist() == [TIME_US] * 6
    alone = encoded_of([numbered(1), numbered(2), numbered(3)])
    assert encoded.rows.to_pylist() == alone.rows.to_pylist()


def test_a_repeat_with_other_bytes_is_a_row_after_the_unique_ones() -> None:
    entries = [numbered(1), numbered(1, user_id="other"), numbered(2), numbered(1), numbered(2, user_id="x")]
    encoded = encoded_of(entries)
    assert (len(encoded.rows), encoded.unique) == (4, 2)
    assert encoded.row_entry.tolist() == [0, 2, 1, 4]
    assert list(encoded.repeats) == [(0, 3)]
    rows = [encoded_of([entry]).rows[0].as_py() for entry in entries]
    assert encoded.rows.to_pylist() == [rows[0], rows[2], rows[1], rows[4]]


def test_a_batch_counts_all_entries_and_keeps_the_faults_apart() -> None:
    batch = batch_of([numbered(1), numbered(2, time="soon"), [b"data", document()]])
    assert (batch.read, len(batch.encoded.rows)) == (3, 2)
    assert [fault.entry for fault in batch.encoded.faults] == [1]
    assert batch.bytes == sum(group.nbytes for group in groups_of([numbered(1), numbered(2, time="soon")])) + sum(
        group.nbytes for group in groups_of([[b"data", document()]])
    )
    assert (batch.stream, batch.ids, batch.encoded.columns) == ("s", IdRange(1 << 64, 4 << 64), ANY.names)


def test_a_batch_without_events_has_no_times() -> None:
    for batch in (Batch("s", IdRange(1, 9), [], ANY, ANY_TIME), batch_of([numbered(1, time="soon")])):
        encoded = batch.encoded
        assert (len(encoded.rows), encoded.unique, encoded.row_entry.tolist()) == (0, 0, [])
        assert (encoded.min_time, encoded.max_time, encoded.hourly_times.tolist()) == (None, None, [])
    assert len(batch.encoded.faults) == 1


def test_hourly_times_have_one_time_of_each_hour() -> None:
    start = TIME_US // HOUR_US * HOUR_US
    offsets = [HOUR_US, 0, HOUR_US - 1, 3 * HOUR_US, HOUR_US + 5, -1]
    batch = batch_of([numbered(n, time=str(start + offset)) for n, offset in enumerate(offsets, 1)])
    hours = [time // HOUR_US for time in batch.encoded.hourly_times.tolist()]
    assert hours == [start // HOUR_US + n for n in (-1, 0, 1, 3)]
    assert set(batch.encoded.hourly_times.tolist()) <= {start + offset for offset in offsets}
    assert (batch.encoded.min_time, batch.encoded.max_time) == (start - 1, start + 3 * HOUR_US)


def test_raw_gives_each_entry_of_every_group_as_it_arrived() -> None:
    entries = [numbered(1), [b"data", document()], numbered(2)]
    batch = batch_of(entries)
    raws = dict(batch.raw(entry) for entry in range(3))
    assert raws == {f"{n}-0": fields for n, fields in enumerate(entries, 1)}
    with pytest.raises(IndexError):
        batch.raw(3)


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_halves_of_a_split_have_all_entries_once_and_adjoining_ranges(count: int) -> None:
    entries = [numbered(n) if n % 3 else [b"data", document(event_id=str(uuid.UUID(int=n)))] for n in range(count)]
    batch = batch_of(entries, IdRange(5, 99 << 64))
    first, second = batch.split()
    assert (first.read, second.read) == (count // 2, count - count // 2)
    assert ids_of(first) == [f"{n}-0" for n in range(1, count // 2 + 1)]
    assert ids_of(second) == [f"{n}-0" for n in range(count // 2 + 1, count + 1)]
    middle = (count // 2 + 1) << 64
    assert (first.ids, second.ids) == (IdRange(5, middle), IdRange(middle, 99 << 64))
    assert (first.stream, second.stream) == ("s", "s")
    assert sorted(first.encoded.rows.to_pylist() + second.encoded.rows.to_pylist()) == sorted(
        batch.encoded.rows.to_pylist()
    )


def test_refused_times_are_faults_of_a_new_batch_and_of_its_halves() -> None:
    batch = batch_of([numbered(n, time=str(TIME_US + n)) for n in range(4)])
    refusing = batch.refusing({EVENTS.regclass: RefusedTimes(lambda times: np.asarray(times % 2 == 1), "the reason")})
    assert len(batch.encoded.faults) == 0
    assert [(fault.entry, fault.field, fault.reason) for fault in refusing.encoded.faults] == [
        (1, "time", "the reason"),
        (3, "time", "the reason"),
    ]
    assert (refusing.stream, refusing.ids, refusing.read, refusing.bytes) == ("s", batch.ids, 4, batch.bytes)
    assert [[fault.entry for fault in half.encoded.faults] for half in refusing.split()] == [[1], [1]]


def test_the_mapping_applies_to_the_halves_and_names_the_extra_columns() -> None:
    extra = replace(EVENTS, columns=(*EVENTS.columns, TableColumn("mood", "tsvector", "tsvector")))
    layout = bind(replace(FLAT.mapping, columns={"mood": key_source("mood")}), extra)
    entries = [[*numbered(n), b"mood", b"good"] for n in range(2)]
    batch = Batch("s", IdRange(1 << 64, 3 << 64), groups_of(entries), layout, ANY_TIME)
    for half in (batch, *batch.split(), batch.refusing({EVENTS.regclass: RefusedTimes(lambda times: times < 0, "")})):
        assert all(row.endswith(b"\tgood\n") for row in half.encoded.rows.to_pylist())
        assert half.encoded.columns == (*ANY.names, "mood")
        assert not half.encoded.binary
