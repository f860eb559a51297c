"""The keys that documents have, compared with those of a mapping."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.stream_mapping import StreamMapping
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import RowLayout, bind
from tasks.mapping.sample_keys import count_keys, near_keys, unmapped_keys

DOCUMENTS: list[dict[str, Any]] = [
    {"id": 1, "actor": {"login": "a", "id": 2}, "place": {"xy": [1, 2]}, "a.b": 1, "note": None},
    {"id": 2, "actor": {"login": "b"}, "extra": {"deep": {"er": 1}}},
]


def layout(**columns: ColumnSource) -> RowLayout:
    found = tuple(TableColumn(name, "text", "text") for name in columns)
    return bind(StreamMapping("s", "t", columns), Table("public", "t", TableKind.PLAIN, found))


def unmapped(**columns: ColumnSource) -> dict[str, int]:
    return unmapped_keys([layout(**columns)], None, count_keys(DOCUMENTS))


def near(key: str, named: bool = True) -> list[str]:
    (column,) = layout(x=key_source(key)).columns
    return near_keys(replace(column, named=named), count_keys(DOCUMENTS), "2 entries")


def test_keys_that_no_column_reads_are_counted_without_what_is_in_them() -> None:
    assert unmapped(x=key_source("id")) == {"actor": 2, "place": 1, '"a.b"': 1, "extra": 1}
    assert unmapped(x=key_source("actor.login"), y=key_source("a.b"), z=key_source("place.xy[0]")) == {
        "id": 2, "actor.id": 1, "extra": 1,
    }  # fmt: skip
    assert unmapped(x=key_source("actor"), y=ColumnSource(("", "id", "-", "extra.deep", ""))) == {
        "place": 1, '"a.b"': 1,
    }  # fmt: skip


def test_nothing_is_unmapped_if_a_column_has_the_rest_or_the_document() -> None:
    assert unmapped(x=ColumnSource(whole="unmapped")) == {}
    assert unmapped(x=ColumnSource(whole="document")) == {}


def test_keys_are_counted_to_a_depth_of_six_names_and_in_ten_elements() -> None:
    deep: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}
    names = ("a", "b", "c", "d", "e", "f")
    assert count_keys([deep, deep]) == {names[:size]: 2 for size in range(1, 7)}
    many = {"x": [*range(9), {"y": 1}, 5, 6], "z": None, "w": [[1], None, 0]}
    assert count_keys([many, {}]) == {("x",): 1, **{("x", n): 1 for n in range(9)}, ("w",): 1, ("w", 2): 1}
    assert count_keys([{"x": list(range(12))}]) == {("x",): 1, **{("x", n): 1 for n in range(10)}}


def test_the_key_of_a_route_is_read() -> None:
    keys = count_keys(DOCUMENTS)
    route = unmapped_keys([layout(x=key_source("id"))], "actor.login", keys)
    assert route == {"actor.id": 1, "place": 1, '"a.b"': 1, "extra": 1}
    two = [layout(x=key_source("id")), layout(y=key_source("actor"), z=key_source("place"))]
    assert unmapped_keys(two, "a.b", keys) == {"extra": 1}


def test_a_key_that_no_mapping_can_name_is_counted_with_dots() -> None:
    keys = count_keys([{'a"b': 1, "c": {'d"e': 2, "f": 3}}])
    assert unmapped_keys([layout(x=key_source("c.f"))], None, keys) == {'a"b': 1, 'c.d"e': 1}
    (column,) = layout(x=key_source("de")).columns
    assert near_keys(column, keys, "1 entries") == ["de: in none of 1 entries"]


def test_at_most_two_keys_are_meant_and_those_with_the_same_name_first() -> None:
    keys = count_keys([{"user": {"name": 1}, "shop": {"name": 1}, "nam": 1}])
    (column,) = layout(x=key_source("name")).columns
    (hint,) = near_keys(column, keys, "1 entries")
    assert sorted(hint.split("; ")) == ["name: in none of 1 entries", "shop.name is in 1", "user.name is in 1"]
    keys = count_keys([{"colour1": 1, "colour2": 1, "colour3": 1, "xcolor": 1}])
    (column,) = layout(x=key_source("colour")).columns
    assert near_keys(column, keys, "1 entries")[0].count(" is in ") == 2
    (column,) = layout(x=key_source("user.name", "user.naem", "shop.zip")).columns
    keys = count_keys([{"user": {"name": 1}}, {"user": {"name": 2}}])
    assert near_keys(column, keys, "2 entries") == [
        "user.naem: in none of 2 entries; user.name is in 2",
        "shop.zip: in none of 2 entries",
    ]


def test_a_key_that_no_document_has_is_compared_with_those_that_are_there() -> None:
    assert near("id") == near("a.b") == near("place.xy[1]") == []
    assert near("acotr.login") == ["acotr.login: in none of 2 entries; actor.login is in 2"]
    assert near("login") == ["login: in none of 2 entries; actor.login is in 2"]
    assert near("colour") == ["colour: in none of 2 entries"]
    assert near("colour", named=False) == []
    assert near("note") == ["note: in none of 2 entries"]
