"""Mappings bound to tables: which columns are filled, from what, with which key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping
from infra.tables.table import TableColumn
from tasks.columns.row_layout import EVENTS_SOURCES, bind
from tests.support.events_layouts import EVENTS
from tests.support.small_layouts import as_read, column, layout_of, table

SMALL = StreamMapping(name="s", table="small")


def test_every_column_is_read_from_the_key_of_its_name_unless_the_mapping_names_it() -> None:
    mapping = replace(SMALL, columns={"b": key_source("x.y"), "z": key_source("q")})
    layout = bind(mapping, table(column("a", "integer"), column("b", "text")))
    assert [(c.name, c.source, c.named) for c in layout.columns] == [
        ("a", key_source("a"), False),
        ("b", key_source("x.y"), True),
    ]
    assert (layout.names, [kind.width for kind in layout.types]) == (("a", "b"), [4, None])
    assert (layout.key, layout.restored, layout.also_read) == ((), None, ())
    assert not layout.is_events


def test_the_columns_that_users_added_to_events_are_filled_only_if_a_mapping_names_them() -> None:
    more = replace(EVENTS, columns=(*EVENTS.columns, TableColumn("mood", "text", "text")))
    assert bind(None, more).names == tuple(EVENTS_SOURCES)
    assert [c.source for c in bind(None, more).columns] == [EVENTS_SOURCES[c.name] for c in EVENTS.columns]
    assert bind(None, more).mapping is BUILT_IN
    named = bind(replace(BUILT_IN, columns={"mood": key_source("m")}), more)
    assert named.names == (*EVENTS_SOURCES, "mood")
    assert bind(replace(BUILT_IN, table="events"), more).names == (*EVENTS_SOURCES, "mood")
    assert bind(replace(BUILT_IN, routes={"a": "events"}, route_key="k"), more).names[-1] == "mood"


def test_the_time_of_an_entry_is_in_milliseconds() -> None:
    source = ColumnSource(whole="entry_time")
    layout = layout_of(
        {"a": "timestamp with time zone", "b": "text"}, {"a": source, "b": ColumnSource(whole="entry_id")}
    )
    assert [c.source for c in layout.columns] == [replace(source, unit="ms"), ColumnSource(whole="entry_id")]


def test_columns_that_the_server_generates_are_left_out_but_numbers_of_an_archive_are_restored() -> None:
    columns = (
        column("a", "integer"),
        column("b", "integer", generated=True),
        column("c", "integer", generated=True, numbered=True),
        column("d", "text"),
    )
    assert bind(SMALL, table(*columns)).names == ("a", "d")
    restored = bind(replace(SMALL, columns={"a": key_source("x")}), table(*columns), only=["a", "b", "c", "e"])
    assert (restored.names, restored.restored) == (("a", "c"), ("a", "b", "c", "e"))
    assert [c.source for c in restored.columns] == [key_source("a"), key_source("c")]


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ((("a",),), ("a",)),
        ((("z",), ("a", "b")), ("a", "b")),
        ((("a", "z"),), ()),
        ((("b",), ("a",)), ("b",)),
        ((), ()),
    ],
)
def test_the_key_is_the_first_whose_columns_are_all_filled(
    keys: tuple[tuple[str, ...], ...], key: tuple[str, ...]
) -> None:
    columns = (column("a", "integer"), column("b", "text"), column("z", "integer", generated=True))
    assert bind(SMALL, table(*columns, keys=keys)).key == key


def test_events_have_their_key_even_without_its_index() -> None:
    bare = replace(EVENTS, keys=())
    assert bind(None, bare).key == ("event_id", "time")
    assert bind(replace(BUILT_IN, table="events"), bare).key == ()
    assert bind(replace(BUILT_IN, routes={"a": "b"}), bare).key == ()
    assert bind(None, replace(bare, columns=bare.columns[:1])).key == ()


def test_the_moment_of_a_row_is_its_time_dimension_or_its_first_time() -> None:
    types = {"n": "integer", "d": "date", "t": "timestamp without time zone", "at": "timestamp with time zone"}
    layout = layout_of(types)
    assert (layout.time, layout.moment) == (None, layout.columns[1])
    assert [c.name for c in layout.time_first] == ["d", "n", "t", "at"]
    timed = bind(SMALL, replace(layout.table, time=as_read("at")))
    assert (timed.time, timed.moment) == (timed.columns[3], timed.columns[3])
    assert [c.name for c in timed.time_first] == ["at", "n", "d", "t"]
    assert layout_of({"n": "integer"}).moment is None
    assert layout_of({"n": "timestamp with time zone"}).moment is not None


def test_the_readers_of_a_time_are_the_keys_of_all_other_columns() -> None:
    sources = {"d": key_source("at"), "n": ColumnSource(("", "a", "-", "b", "")), "t": key_source("at", "c")}
    layout = layout_of({"n": "text", "d": "date", "t": "text"}, sources)
    assert layout.time_readers == {"a", "b", "at", "c"}
    assert layout.with_columns(layout.columns[:2]).time_readers == {"a", "b"}


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ([b"data"], "json"),
        ([b"data", b"x"], "json"),
        ([b"data", b"a"], "flat"),
        ([b"data", b"b"], "json"),
        ([b"a"], "flat"),
        ([b"x"], "flat"),
        ([], "flat"),
    ],
)
def test_an_entry_is_a_document_unless_it_has_a_field_of_the_key(fields: list[bytes], shape: str) -> None:
    layout = bind(SMALL, table(column("a", "integer"), column("b", "text"), keys=(("a",),)))
    assert layout.shape_of(fields) == shape
    for fixed in ("json", "flat"):
        assert bind(replace(SMALL, layout=fixed), layout.table).shape_of(fields) == fixed


def test_without_a_key_every_field_that_is_read_marks_a_flat_entry() -> None:
    layout = layout_of({"a": "integer", "b": "text"}, {"b": key_source('"x"', "y")})
    assert [layout.shape_of([b"data", name]) for name in (b"a", b"x", b"y", b"b")] == ["flat", "flat", "flat", "json"]
    of_data = layout_of({"data": "jsonb", "a": "text"})
    assert [of_data.shape_of([b"data", *more]) for more in ([], [b"a"])] == ["json", "flat"]
    only_data = layout_of({"data": "jsonb"})
    assert only_data.shape_of([b"data"]) == "flat", "it is the only field that is read"
    assert bind(None, EVENTS).shape_of([b"data", b"time"]) == "json"
    assert bind(None, EVENTS).shape_of([b"data", b"event_id"]) == "flat"


def test_a_layout_changes_with_its_routes() -> None:
    mapping = replace(SMALL, route_key="k", routes={"x": "other"}, each="e", encodings=("gzip",), layout=None)
    other = bind(replace(SMALL, table="other", each="e", encodings=("gzip",)), table(column("a", "text"), name="other"))
    layout = replace(bind(mapping, table(column("a", "integer"))), routes={"x": other, "y": other})
    assert layout.also_read == ("k",)
    assert layout.tables == (layout.table, other.table)
    for one in (layout.of_elements(), layout.of_elements().routes["x"]):
        assert (one.mapping.each, one.mapping.encodings, one.mapping.layout) == (None, (), "json")
    assert list(layout.of_elements().routes) == ["x", "y"]
    keyed = layout.with_json_keys(frozenset([b"a"]))
    assert (keyed.json_keys, keyed.routes["x"].json_keys) == ({b"a"}, {b"a"})
    rest = layout.without_routes()
    assert (rest.routes, rest.mapping.routes, rest.mapping.route_key, rest.also_read) == ({}, {}, None, ("k",))
    assert bind(BUILT_IN, EVENTS).is_events
    assert not bind(replace(BUILT_IN, routes={"a": "b"}), EVENTS).is_events
    assert not bind(replace(BUILT_IN, table="events"), EVENTS).is_events


def test_a_column_that_is_left_out_hides_none_of_those_after_it() -> None:
    wide = table(*(column(name, "text") for name in "abcd"))
    assert [one.name for one in bind(None, wide, only=["a", "c"]).columns] == ["a", "c"]
