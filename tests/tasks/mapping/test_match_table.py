"""A proposal for a table that exists: which key fills which of its columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.mapping.column_source import ColumnSource
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import bind
from tasks.mapping.leaves import find_leaves
from tasks.mapping.match_table import match_table
from tasks.mapping.sample_documents import Digits
from tests.support.events_layouts import EVENTS
from tests.support.shop import orders
from tests.support.suggested import drained, json_entries, loaded, suggested


def table(time: str | None = None, **types: str) -> Table:
    columns = tuple(TableColumn(name, kind.removesuffix("!"), kind.removesuffix("!"), nullable="!" not in kind)
                    for name, kind in types.items())  # fmt: skip
    return Table("public", "found", TableKind.HYPERTABLE if time else TableKind.PLAIN, columns, time=time)


def test_keys_fill_the_columns_that_they_are_called_like(tmp_path: Path) -> None:
    groups = json_entries(orders(50))
    target = table(
        "bought_at", bought_at="timestamptz!", order_id="uuid", TOTAL="numeric", customer="jsonb", customer_id="int4",
        mail="text", email="varchar", payload="jsonb", tenant="int8",
    )  # fmt: skip
    found = suggested(groups, target)
    assert found.table is None
    mapping = loaded(found, tmp_path)
    assert {name: (source.single_key, source.whole, source.ulid) for name, source in mapping.columns.items()} == {
        "bought_at": ("placedAt", None, False),
        "order_id": ("orderId", None, True),
        "TOTAL": ("total", None, False),
        "customer_id": ("customer.id", None, False),
        "email": ("customer.email", None, False),
        "payload": (None, "unmapped", False),
    }
    # A text is no int8, and no key is called `mail`.
    assert [note.partition(" (")[0] for note in found.notes] == [
        "no key was found for customer", "no key was found for mail", "no key was found for tenant",
    ]  # fmt: skip
    rows = drained(groups, bind(mapping, target))
    assert (len(rows), rows.faults) == (50, [])


def test_a_column_that_every_row_needs_and_nothing_fills_is_noted() -> None:
    found = suggested(json_entries(orders(5)), table(colour="text!"))
    assert found.notes == ["no key was found for colour (text), which every row must have: name its source"]


def test_the_time_of_a_table_is_that_of_the_entry_if_no_key_is_a_time(tmp_path: Path) -> None:
    found = suggested(json_entries([{"n": 1}]), table("at", at="timestamptz!", n="int8"))
    assert loaded(found, tmp_path).columns == {"at": ColumnSource(whole="entry_time")}


def test_the_events_table_gets_a_uuid_of_any_id(tmp_path: Path) -> None:
    documents = [{"id": f"ci{n}", "at": "2024-01-02T03:04:05Z", "kind": "a", "user": "u"} for n in range(5)]
    found = suggested(json_entries(documents), EVENTS)
    columns = loaded(found, tmp_path).columns
    assert {name: source.single_key for name, source in columns.items()} == {
        "time": "at", "event_id": "id", "event_type": "kind", "user_id": "user", "properties": None,
    }  # fmt: skip
    assert columns["event_id"].namespace is not None


@pytest.mark.parametrize("kind", ["inet", "mood", "_text", "interval"])
def test_a_column_of_another_type_takes_a_text_with_its_name(kind: str, tmp_path: Path) -> None:
    found = suggested(json_entries([{"Value": "x"}]), table(value=kind))
    assert loaded(found, tmp_path).columns["value"].single_key == "Value"


def matched(documents: list[dict[str, Any]], target: Table, stream: bool = True) -> dict[str, str | dict[str, Any]]:
    """Column → its key, and its options if it has any or no key."""
    texts = [json.dumps(document) for document in documents]
    leaves = find_leaves([json.loads(text, parse_int=Digits, parse_float=Digits) for text in texts])
    matches, missing = match_table(target, leaves, "json", stream)
    assert len(matches) + len(missing) == len([column for column in target.columns if not column.generated])
    return {m.column.name: m.options if m.leaf is None else m.leaf.key for m in matches}


VALUES: dict[str, Any] = {
    "int8": 7,
    "float8": 1.5,
    "timestamptz": "2024-01-02T03:04:05Z",
    "date": "2024-01-02",
    "uuid": "0123abcd-4567-89ab-cdef-0123456789ab",
    "bool": True,
    "jsonb": {},
    "text": "x",
}
NUMBERS, TIMES = "int2 int4 int8 float4 float8 numeric", "timestamptz timestamp date"
TAKEN = {
    "int8": f"{NUMBERS} text varchar bpchar uuid mood interval",
    "float8": "float4 float8 numeric text varchar bpchar mood interval",
    "timestamptz": f"{TIMES} text varchar bpchar mood interval",
    "date": f"{TIMES} text varchar bpchar mood interval",
    "uuid": "uuid text varchar bpchar mood interval",
    "bool": "bool text varchar bpchar mood interval",
    "jsonb": "json jsonb",
    "text": "text varchar bpchar uuid mood interval",
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_column_takes_values_of_the_types_that_fit(kind: str) -> None:
    columns = f"{NUMBERS} {TIMES} bool text varchar bpchar json jsonb uuid mood interval _text _int4"
    found = {name for name in columns.split() if matched([{"x": VALUES[kind]}], table(x=name), stream=False)}
    assert found == {*TAKEN[kind].split(), "_text", "_int4"}


def test_the_closest_name_goes_first_and_each_key_fills_one_column() -> None:
    document = {"user_id": 1, "userId": 2, "user": {"id": 3, "name": "x"}, "id": 4}
    assert matched([document], table(user_id="int8", id="int8", name="text")) == {
        "user_id": "user_id", "id": "id", "name": "user.name",
    }  # fmt: skip
    assert matched([{"userId": 2, "user": {"id": 3}}], table(user_id="int8", id="int8")) == {
        "user_id": "userId", "id": "user.id",
    }  # fmt: skip
    assert matched([{"a": {"b": {"id": 1}}, "c": {"id": 2}}], table(id="int8")) == {"id": "c.id"}
    assert matched([{"a": {"id": 1}}], table(a_id="int8", id="int8")) == {"a_id": "a.id"}
    assert matched([{"longitude": 1.5, "mag": 2.5}], table(lng="float8", magnitude="float8")) == {
        "lng": "longitude", "magnitude": "mag",
    }  # fmt: skip
    assert matched([{"lng": 1.5}], table(mag="float8")) == {}
    assert matched([{"total": 1, "TOTAL": 2}], table(TOTAL="int8")) == {"TOTAL": "TOTAL"}
    assert matched([{"coordinates": [1.5, 2.5]}], table(latitude="float8", longitude="float8")) == {
        "latitude": "coordinates[1]", "longitude": "coordinates[0]",
    }  # fmt: skip
    assert matched([{"data": {"id": 1}}], table(data_id="int8")) == {"data_id": "data.id"}


def test_generated_columns_are_not_filled() -> None:
    target = table(a="int8", b="int8")
    target = replace(target, columns=(target.columns[0], replace(target.columns[1], generated=True)))
    assert matched([{"a": 1, "b": 2}], target) == {"a": "a"}
    timed = replace(table("at", at="timestamptz!"), columns=(TableColumn("at", "x", "timestamptz", generated=True),))
    assert matched([{"n": 1}], timed) == {}


def test_json_columns_with_a_usual_name_get_the_rest() -> None:
    found = matched([{"n": 1}], table(payload="jsonb", rest="json", data="text", colour="jsonb"))
    assert found == {"payload": {"unmapped": True}, "rest": {"unmapped": True}}


def test_the_time_of_a_table_is_that_of_the_sample_whatever_its_name() -> None:
    time = "2024-01-02T03:04:05Z"
    assert matched([{"born": time, "at": time}], table("moment", moment="timestamptz")) == {"moment": "at"}
    assert matched([{"born": time, "at": time}], table("born", born="timestamptz", at="timestamptz")) == {
        "born": "born", "at": "at",
    }  # fmt: skip
    assert matched([{"born": time}], table(moment="timestamptz")) == {}
    assert matched([{"n": 1}], table("moment", moment="timestamptz"), stream=False) == {}
    assert matched([{"n": 1}], table("moment", moment="timestamptz")) == {"moment": {"entry": "time"}}
    assert matched([{"born": time}], table("moment", moment="timestamptz", other="timestamptz")) == {"moment": "born"}


def test_the_options_of_a_column_are_those_that_its_type_needs() -> None:
    ulid = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    leaves = find_leaves([{"a": ulid, "b": ulid, "c": "x", "d": "25/12/2024", "e": "25/12/2024"}])
    matches, _ = match_table(table(a="uuid!", b="text", c="uuid!", d="date", e="varchar"), leaves, "json", False)
    assert [match.options for match in matches] == [{"ulid": True}, {}, {"uuid5": True}, {"format": "%d/%m/%Y"}, {}]
