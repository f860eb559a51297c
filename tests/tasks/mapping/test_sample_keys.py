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


def test_a_key_that_no_document_has_is_compared_with_those_that_are_there() -> None:
    assert near("id") == near("a.b") == near("place.xy[1]") == []
    assert near("acotr.login") == ["acotr.login: in none of 2 entries; actor.login is in 2"]
    assert near("login") == ["login: in none of 2 entries; actor.login is in 2"]
    assert near("colour") == ["colour: in none of 2 entries"]
    assert near("colour", named=False) == []
    assert near("note") == ["note: in none of 2 entries"]
