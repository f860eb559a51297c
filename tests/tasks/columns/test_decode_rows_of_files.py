"""Rows of files: malformed records, missing fields as nulls, and times in the spelling of their format."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pyarrow as pa
import pytest

from infra.mapping.column_source import ColumnSource, key_source
from tasks.columns.decode import Fault, decode, event_times
from tasks.columns.entries import MALFORMED, EntryColumns
from tasks.columns.uuids import NAMESPACE
from tests.support.decoded_entries import ANY_TIME, ID, TIME, TIME_US, decoded, document, flat, groups_of
from tests.support.events_layouts import ANY, FLAT, JSON, with_sources


def rows_of_file(**columns: list[str | None]) -> EntryColumns:
    """The columns of a file as a group; None for a field that a row does not have."""
    count = len(next(iter(columns.values())))
    ids = pa.array([b"0-%d" % number for number in range(count)], pa.binary())
    malformed = MALFORMED.decode()  # equal to the name in the program, and not the same object
    keys = tuple((malformed if name == "malformed" else name).encode() for name in columns)
    values = tuple(
        pa.array([None if value is None else value.encode() for value in column], pa.binary())
        for column in columns.values()
    )
    return EntryColumns(ids, keys, values)


def test_the_name_of_the_malformed_field_never_changes() -> None:
    """It is in quarantine tables: a redrive would no longer recognise these records."""
    assert MALFORMED == b"(malformed record)"


def test_a_malformed_record_is_a_fault_that_quotes_it_until_someone_corrects_its_values() -> None:
    group = rows_of_file(
        malformed=[None, "a,b,c", "x" * 61, "a,b,c"],
        event_id=[ID, None, None, ID],
        event_type=["t", None, None, "t"],
        user_id=["u", None, None, "corrected"],
        time=[TIME, None, None, TIME],
    )
    events = decode([group], FLAT, ANY_TIME)
    assert events.rows.column("user_id").to_pylist() == [b"u", b"corrected"]
    assert list(events.faults) == [
        Fault(1, "(malformed record)", "expected as many values as the header has names, found 'a,b,c'"),
        Fault(2, "(malformed record)", f"expected as many values as the header has names, found {'x' * 60!r}"),
    ]


def test_a_malformed_record_that_is_not_utf8_is_quoted_with_replacements() -> None:
    (group,) = groups_of([[MALFORMED, b"a,\xff"]])
    (fault,) = decode([group], FLAT, ANY_TIME).faults
    assert fault.reason == "expected as many values as the header has names, found 'a,\ufffd'"


@pytest.mark.parametrize("other", [b"!", b"(", b"a"])
def test_a_record_with_any_other_field_has_been_corrected(other: bytes) -> None:
    (group,) = groups_of([[MALFORMED, b"a,b", other, b"1"]])
    assert list(decode([group], FLAT, ANY_TIME).faults) == [Fault(0, "time", "missing field time")]


def test_the_stream_order_of_events_is_that_of_their_ids_in_whatever_group_they_are() -> None:
    groups = groups_of([flat(), [b"data", document()], flat(), [b"data", document()]])
    events = decode(groups, ANY, ANY_TIME)
    assert (events.entry.tolist(), events.stream_order.tolist()) == ([0, 1, 2, 3], [0, 2, 1, 3])


def test_a_row_gives_back_only_the_fields_that_it_has() -> None:
    group = rows_of_file(a=["1", None], b=[None, ""])
    assert [group.raw(row) for row in range(2)] == [("0-0", [b"a", b"1"]), ("0-1", [b"b", b""])]


@pytest.mark.parametrize(
    "text", ["1704164645", "1704164645000.0", "2024-01-02 03:04:05", TIME, "2024-01-02T04:04:05+01"]
)
def test_an_id_made_from_the_time_does_not_depend_on_its_spelling(text: str) -> None:
    event_id = ColumnSource(("", "user_id", "|", "at", ""), namespace=NAMESPACE)
    events = decoded([flat(at=text)], with_sources(FLAT, event_id=event_id, time=key_source("at")))
    assert events.event_id.tobytes() == uuid.uuid5(NAMESPACE, f"u|{TIME}").bytes


def test_an_absent_time_that_another_column_reads_is_missing_and_not_1970() -> None:
    time = ColumnSource(("", "at", ""), default=TIME)
    layout = with_sources(FLAT, user_id=key_source("at"), time=time)
    assert list(decoded([flat()], layout).faults) == [Fault(0, "user_id", "missing field at")]


def test_a_time_may_be_put_together_from_two_fields() -> None:
    mapping = with_sources(FLAT, time=ColumnSource(("", "day", "T", "clock", "")))
    assert decoded([flat(day="2024-01-02", clock="03:04:05")], mapping).time.tolist() == [TIME_US]


def test_event_times_of_flat_entries_are_zero_if_they_cannot_be_read() -> None:
    (group,) = groups_of([flat(), flat(time="soon"), flat(time=b"\xff"), flat(time="1", event_id="no UUID")])
    times, good = event_times(group, FLAT, "flat")
    assert (times.tolist(), good.tolist()) == ([TIME_US, 0, 0, 1_000_000], [True, False, False, True])
    group = rows_of_file(time=[None, TIME, None], timestamp=[None, None, "5"])
    times, good = event_times(group, FLAT, "flat")
    assert (times.tolist(), good.tolist()) == ([0, TIME_US, 5_000_000], [False, True, True])


def test_event_times_of_documents_are_zero_if_they_cannot_be_read() -> None:
    (group,) = groups_of([[b"data", text] for text in (document(), b"{", b"{}", document(time="soon"))])
    times, good = event_times(group, JSON, "json")
    assert (times.tolist(), good.tolist()) == ([TIME_US, 0, 0, 0], [True, False, False, False])


def test_entries_have_no_event_times_if_the_table_has_none_or_if_they_become_several_rows() -> None:
    (group,) = groups_of([flat(), flat()])
    without = replace(FLAT, table=replace(FLAT.table, time=None))
    several = replace(FLAT, mapping=replace(FLAT.mapping, each="items"))
    for layout in (without, several):
        assert [column.tolist() for column in event_times(group, layout, "flat")] == [[0, 0], [False, False]]


def test_an_event_time_does_not_depend_on_the_other_fields() -> None:
    (group,) = groups_of([flat(**dict.fromkeys(("event_id", "event_type", "user_id", "properties", "more"), b"\xff"))])
    assert [column.tolist() for column in event_times(group, FLAT, "flat")] == [[TIME_US], [True]]
    (group,) = groups_of([[b"data", document(event_id={}, event_type={}, user_id={})]])
    assert [column.tolist() for column in event_times(group, JSON, "json")] == [[TIME_US], [True]]


@pytest.mark.parametrize(("length", "quoted"), [(60, "x" * 60), (61, "x" * 60 + "…")])
def test_a_reason_quotes_sixty_characters(length: int, quoted: str) -> None:
    (fault,) = decoded([flat(event_id="x" * length)]).faults
    assert fault == Fault(0, "event_id", f"expected a UUID, found {quoted!r}")
    assert not fault.conflict, "only the table finds conflicts"
