"""A proposal for a table that exists: which key fills which of its columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.mapping.column_source import ColumnSource
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import bind
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
