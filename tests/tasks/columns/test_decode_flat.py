"""Flat entries to events, and what becomes of those that are none."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from infra.mapping.column_source import ColumnSource
from infra.mapping.stream_mapping import StreamMapping
from tasks.columns.decode import EVERY_TIME, Fault, RefusedTimes, TimeWindow, decode
from tasks.columns.entries import concat_entries
from tasks.columns.row_layout import bind
from tasks.columns.uuids import NAMESPACE
from tests.support.decoded_entries import ANY_TIME, ID, TIME, TIME_US, decoded, document, flat, groups_of
from tests.support.events_layouts import ANY, FLAT, WHOLE_DOCUMENT, with_sources
from tests.support.small_layouts import column, layout_of, table

WHOLE = with_sources(FLAT, properties=WHOLE_DOCUMENT)


def test_a_flat_entry_becomes_a_row_field_by_field() -> None:
    events = decoded([flat(event_type="né", user_id="u1", properties='{"a": 1.0}')])
    assert events.time.tolist() == [TIME_US]
    assert events.event_id.tobytes().hex() == ID.replace("-", "")
    assert events.event_type.to_pylist() == ["né".encode()]
    assert events.user_id.to_pylist() == [b"u1"]
    assert events.properties.to_pylist() == [b'{"a": 1.0}']
    assert events.entry.tolist() == [0]
    assert events.faults == []


def test_an_entry_without_properties_has_none() -> None:
    assert decoded([flat(properties=None)]).properties.to_pylist() == [None]
    assert decoded([flat(), flat(properties=None)]).properties.to_pylist() == [b"{}", None]


def test_the_time_may_be_called_timestamp_and_the_name_time_goes_first() -> None:
    events = decoded(
        [
            flat(time=None, timestamp="1704164645"),
            flat(time="1704164646", timestamp="garbage"),
            [*flat(), b"timestamp", b"0"],
        ]
    )
    by_entry = dict(zip(events.entry.tolist(), events.time.tolist(), strict=True))
    assert by_entry == {0: TIME_US, 1: TIME_US + 1_000_000, 2: TIME_US}


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"event_id": None}, "event_id", "missing field event_id"),
        ({"event_type": None}, "event_type", "missing field event_type"),
        ({"user_id": None}, "user_id", "missing field user_id"),
        ({"time": None}, "time", "missing field time"),
        ({"event_id": "17"}, "event_id", "expected a UUID, found '17'"),
        ({"event_id": ""}, "event_id", "expected a UUID, found ''"),
        ({"time": "soon"}, "time", "expected ISO 8601 or a number of s, ms or µs since 1970, found 'soon'"),
        ({"time": "-250000000000000000"}, "time", "expected ISO 8601 or a number of s, ms or µs since 1970"),  # 5954 BC
        ({"time": ""}, "time", "expected ISO 8601 or a number of s, ms or µs since 1970, found ''"),
        ({"user_id": b"ab\xff"}, "user_id", "expected UTF-8, found byte 0xff at 2"),
        ({"time": b"\xfe"}, "time", "expected UTF-8, found byte 0xfe at 0"),
        ({"user_id": b"\xed\xa0\x80"}, "user_id", "expected UTF-8, found byte 0xed at 0"),  # a surrogate
        ({"time": "soon", "event_id": "17"}, "time", "expected ISO 8601"),
    ],
)
def test_a_bad_entry_is_one_fault_with_field_and_reason_and_its_neighbours_are_events(
    changes: dict[str, str | bytes | None], field: str, reason: str
) -> None:
    for entries, bad in (
        ([flat(**changes)], 0),
        ([flat(user_id="a"), flat(**changes), flat(user_id="b")], 1),
        ([flat(**changes), flat(user_id="a"), flat(user_id="b")], 0),
        ([*[flat()] * 100, flat(**changes), *[flat()] * 100], 100),
    ):
        events = decoded(entries)
        (fault,) = events.faults
        assert (fault.entry, fault.field) == (bad, field)
        assert fault.reason.startswith(reason)
        assert len(events) == len(entries) - 1
        assert set(events.event_id[:, 0].tolist()) <= {1}
        assert set(events.time.tolist()) <= {TIME_US}


def test_every_bad_entry_of_many_has_its_own_fault() -> None:
    entries = [flat(user_id=str(i)) for i in range(200)]
    entries[3], entries[77], entries[199] = flat(time="x"), flat(event_id="y"), flat(user_id=b"\xff")
    events = decoded(entries)
    assert [(f.entry, f.field) for f in events.faults] == [(3, "time"), (77, "event_id"), (199, "user_id")]
    assert events.user_id.to_pylist() == [str(i).encode() for i in range(200) if i not in (3, 77, 199)]


def test_a_reason_quotes_no_more_than_the_beginning_of_a_long_value() -> None:
    events = decoded([flat(time="x" * 1_000_000), flat(event_id="é" * 1_000_000)])
    assert [len(fault.reason) < 200 for fault in events.faults] == [True, True]


def test_a_time_outside_the_window_is_a_fault_and_its_edges_are_inside() -> None:
    window = TimeWindow(TIME_US - 1, TIME_US + 1)
    times = [TIME_US - 2, TIME_US - 1, TIME_US, TIME_US + 1, TIME_US + 2]
    events = decoded([flat(time=str(time)) for time in times], window=window)
    assert events.time.tolist() == times[1:4]
    assert [(fault.entry, fault.field) for fault in events.faults] == [(0, "time"), (4, "time")]
    expected = "expected a time within SPILLWAY_MAX_AGE_DAYS and SPILLWAY_MAX_AHEAD_DAYS of now, found "
    assert all(fault.reason.startswith(expected) for fault in events.faults)
    assert str(TIME_US - 2) in events.faults[0].reason


def test_the_window_around_now_has_its_days_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: TIME_US * 1_000 + 999)
    window = TimeWindow.around_now(10, 0.5)
    assert window == TimeWindow(TIME_US - 10 * 86_400_000_000, TIME_US + 43_200_000_000, refused={})
    sevenths = TimeWindow.around_now(2 / 7, 1 / 7)  # rounded to a whole microsecond
    assert sevenths == TimeWindow(TIME_US - 24_685_714_286, TIME_US + 12_342_857_143)


def test_an_empty_text_is_a_text() -> None:
    events = decoded([flat(event_type="", user_id="")])
    assert (events.event_type.to_pylist(), events.user_id.to_pylist()) == ([b""], [b""])


def test_mixed_layouts_in_one_page_are_each_read_as_what_they_are() -> None:
    """Which entry came first, and where a page ended, decides nothing."""
    entries = [flat(user_id="0"), [*flat(user_id="1"), b"x", b"y"], [b"data", document(user_id="2")], [b"q", b"q"]]
    for turn in range(4):
        turned = entries[turn:] + entries[:turn]
        lone = decoded([*turned, *[flat(user_id="many")] * 50])  # all shapes but one are too rare for columns
        assert lone.user_id.to_pylist().count(b"many") == 50
        assert sorted(set(lone.user_id.to_pylist())) == [b"0", b"1", b"2", b"many"]
        assert [(f.entry, f.reason) for f in lone.faults] == [((3 - turn) % 4, "missing field time")]
        events = decoded(turned)
        found = dict(zip(events.entry.tolist(), events.user_id.to_pylist(), strict=True))
        assert found == {(int(user) - turn) % 4: user for user in (b"0", b"1", b"2")}
        assert [(f.entry, f.reason) for f in events.faults] == [((3 - turn) % 4, "missing field time")]


def test_a_field_called_data_beside_an_event_id_does_not_make_an_entry_json() -> None:
    assert decoded([[*flat(), b"data", b"x"]]).user_id.to_pylist() == [b"u"]


def test_entries_are_numbered_through_the_groups_of_many_pages() -> None:
    pages = [groups_of([flat(), [*flat(), b"x", b""], flat(time="bad")]) for _ in range(3)]
    groups = concat_entries(pages)
    events = decode(groups, ANY, ANY_TIME)
    assert len(events) == 6
    assert {fault.field for fault in events.faults} == {"time"}
    assert sorted([*events.entry.tolist(), *(fault.entry for fault in events.faults)]) == list(range(9))


def test_no_groups_are_no_events() -> None:
    events = decode([], ANY, ANY_TIME)
    assert (len(events), events.rows.num_rows, list(events.faults)) == (0, 0, [])
    assert (events.rows.schema.names, events.rows.schema.types) == ([*ANY.names], [kind.arrow for kind in ANY.types])


def test_whole_entries_become_properties_of_strings_with_the_last_of_a_repeated_field() -> None:
    entry = [*flat(properties=None), b"x", b"1", b"x", "né".encode(), b"", b""]
    (text,) = decoded([entry], WHOLE).properties.to_pylist()
    names = {"event_id": ID, "event_type": "click", "user_id": "u", "time": TIME}
    assert json.loads(text) == names | {"x": "né", "": ""}


def test_a_field_that_is_not_utf8_is_a_fault_where_the_whole_entry_becomes_properties() -> None:
    """Otherwise the row would be stored without its properties, and no error would say so."""
    events = decoded([flat(x="a"), flat(x=b"\xff"), [*flat(), b"\xfe", b"z"]], WHOLE)
    assert len(events) == 1
    assert events.faults == [
        Fault(1, "x", "expected UTF-8, found byte 0xff at 0"),
        Fault(2, "\ufffd", "expected UTF-8, found byte 0xfe at 0"),
    ]


def test_templates_defaults_and_uuid5_of_a_mapping() -> None:
    layout = with_sources(
        FLAT,
        event_type=ColumnSource(("", "event_type", ".", "kind", "!")),
        user_id=ColumnSource(("", "user_id", ""), default="nobody"),
        event_id=ColumnSource(("", "event_id", ""), namespace=NAMESPACE),
    )
    events = decoded(
        [
            flat(kind="k"),
            flat(kind="k", user_id=None, event_id="order-17"),
            flat(kind=None),
            flat(kind=None, event_type=None),
            flat(kind="", user_id=""),
        ],
        layout,
    )
    rows = dict(
        zip(
            events.entry.tolist(),
            zip(events.event_type.to_pylist(), events.user_id.to_pylist(), strict=True),
            strict=True,
        )
    )
    assert rows == {0: (b"click.k!", b"u"), 1: (b"click.k!", b"nobody"), 4: (b"click.!", b"")}
    assert {(f.entry, f.field, f.reason) for f in events.faults} == {
        (2, "event_type", "missing field kind"),
        (3, "event_type", "missing field event_type, kind"),
    }


def test_a_default_replaces_a_whole_template() -> None:
    layout = with_sources(FLAT, event_type=ColumnSource(("", "a", ".", "b", ""), default="none"))
    events = decoded([flat(a="1", b="2"), flat(a="1")], layout)
    assert sorted(events.event_type.to_pylist()) == [b"1.2", b"none"]


def test_an_unknown_key_is_refused_if_the_mapping_says_so_and_the_first_fault_of_an_entry_stays() -> None:
    layout = layout_of({"a": "integer", "at": "date"}, unknown="refuse")
    entries = [[b"a", b"1"], [b"a", b"1", b"b", b"x" * 99], [b"at", b"soon", b"b", b"2"], [b"a", b"2"]]
    rows = decode(groups_of(entries), layout, ANY_TIME)
    expected = 'expected no key that no column reads (unknown = "refuse"), found '
    reasons = {fault.reason for fault in rows.faults}
    assert reasons == {expected + f'{{"b":"{"x" * 54}', expected + '{"b":"2"}'}
    assert {fault.field for fault in rows.faults} == {""}
    assert len(rows.times) == 0, "the table has no time"
    assert sorted(rows.rows.column("a").to_pylist()) == [1, 2]


def test_unknown_keys_that_a_column_stores_are_refused_only_if_the_mapping_says_so() -> None:
    layout = layout_of({"a": "text", "rest": "jsonb"}, {"rest": ColumnSource(whole="unmapped")})
    rows = decode(groups_of([[b"a", b"1", b"b", b"2"]]), layout, ANY_TIME)
    assert (rows.rows.column("rest").to_pylist(), len(rows.faults)) == ([b'{"b":"2"}'], 0)


def test_every_time_that_can_be_read_is_within_the_window_of_every_time() -> None:
    edges = [-210_866_803_200_000_000, 10**18 - 1]
    assert decoded([flat(time=str(edge)) for edge in edges], window=EVERY_TIME).time.tolist() == edges


def test_a_column_that_one_group_leaves_to_the_server_is_text_in_all_of_them() -> None:
    layout = layout_of({"a": "integer", "b": "text"})
    for one, other in ((b"0x10", b"7"), (b"7", b"0x10")):
        entries = [*[[b"a", one]] * 60, *[[b"a", other, b"b", b"\xc3\xa9"]] * 60]
        groups = groups_of(entries)
        assert len(groups) == 2
        rows = decode(groups, layout, ANY_TIME).rows
        assert rows.column("a").to_pylist() == [one.decode()] * 60 + [other.decode()] * 60
        assert rows.column("b").to_pylist() == [None] * 60 + ["é".encode()] * 60


@pytest.mark.parametrize("kind", ["date", "timestamp without time zone", "timestamp with time zone"])
def test_a_day_as_the_time_of_a_table_is_its_midnight_in_utc(kind: str) -> None:
    columns = (column("day", kind), column("a", "text"))
    window = TimeWindow(-86_400_000_000, 2 * 86_400_000_000)
    layout = bind(StreamMapping(name="s", table="small"), table(*columns, time="day"))
    days = ["1969-12-30", "1969-12-31", "1970-01-03", "1970-01-04"]
    entries = [[b"day", day.encode(), b"a", b"x"] for day in days]
    rows = decode(groups_of(entries), layout, window)
    assert rows.times.tolist() == [-86_400_000_000, 2 * 86_400_000_000]
    assert [(fault.entry, fault.field) for fault in rows.faults] == [(0, "day"), (3, "day")]
    (group,) = groups_of([[b"a", b"x"]])
    assert decode([group], layout, window).times.tolist() == [0], "null"


def test_what_the_server_wrote_into_an_archive_is_for_the_server_to_read_except_the_time() -> None:
    old, new = "0044-03-15 00:00:00 BC", "2024-01-02 03:04:05"
    entries = groups_of([[b"at", new.encode(), b"z", old.encode()], [b"at", old.encode(), b"z", new.encode()]])
    kind = "timestamp without time zone"
    small = layout_of({"at": kind, "z": kind})
    assert [(fault.entry, fault.field) for fault in decode(entries, small, ANY_TIME).faults] == [(0, "z"), (1, "at")]
    restored = decode(entries, replace(small, restored=("at", "z")), ANY_TIME)
    assert not restored.faults
    assert [texts.to_pylist() for texts in restored.rows.columns] == [[new, old], [old, new]]
    timed = decode(entries, replace(small, restored=("at", "z"), table=replace(small.table, time="at")), ANY_TIME)
    assert [(fault.entry, fault.field) for fault in timed.faults] == [(1, "at")]
    assert timed.rows.column("z").to_pylist() == [old]
    understood = decode(groups_of([[b"at", new.encode()]]), replace(small, restored=("at",)), ANY_TIME)
    assert understood.rows.column("at").type == small.types[0].arrow


def test_a_refused_time_has_its_reason_only_if_it_is_a_time_of_this_table_within_the_window() -> None:
    every = RefusedTimes(lambda times: np.ones(len(times), bool), "the reason")
    window = replace(ANY_TIME, refused={FLAT.table.regclass: every})
    events = decoded([flat(), flat(time="soon"), flat(time=None), flat(event_id="17")], FLAT, window)
    assert [fault.reason[:20] for fault in events.faults] == [
        "the reason",
        "expected ISO 8601 or",
        "missing field time",
        "expected a UUID, fou",
    ]
    assert len(decoded([flat()], FLAT, replace(ANY_TIME, refused={"public.other": every}))) == 1
