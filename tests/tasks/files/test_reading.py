"""What the ledger records about how a file was read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.columns.row_layout import RowLayout
from tasks.files.reading import describe_reading, is_document, is_of_texts, json_keys_of, times_of
from tests.support.events_layouts import FLAT

LAYOUT = FLAT


@pytest.mark.parametrize(
    "keys",
    [{"n"}, {"n", "a b"}, {'|json=["x"]'}, {"Zoë", '"', "\\", "|", "]", "\n"}, {"json=[1]"}],
    ids=["one", "two", "like the record", "signs", "like a list"],
)
def test_the_keys_that_are_json_are_read_back_whatever_their_names(keys: set[str]) -> None:
    encoded = frozenset(key.encode() for key in keys)
    reading = describe_reading(LAYOUT.with_json_keys(encoded))
    assert times_of(reading) == describe_reading(LAYOUT) == "flat|time||timestamp"
    assert json_keys_of(reading) == encoded


def test_a_record_of_the_first_release_says_that_all_values_were_texts() -> None:
    recorded = "flat|time||timestamp"
    assert (times_of(recorded), json_keys_of(recorded)) == (recorded, frozenset())
    assert is_of_texts(LAYOUT.with_json_keys(frozenset([b"n"])), recorded)
    assert not is_of_texts(LAYOUT, recorded)


@pytest.mark.parametrize(
    ("reading", "expected"), [("json|at||", True), ("json", True), ("flat|json||", False), ("", False)]
)
def test_the_shape_is_recorded_also_for_a_table_without_a_time(reading: str, expected: bool) -> None:
    assert is_document(reading) == expected


def test_every_route_has_the_same_keys() -> None:
    routed: RowLayout = replace(LAYOUT, routes={"a": LAYOUT}).with_json_keys(frozenset([b"n"]))
    assert routed.routes["a"].json_keys == {b"n"}
