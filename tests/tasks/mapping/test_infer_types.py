"""The type of a column that takes every value of a sample, and what its mapping must say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.mapping.infer_types import InferredType, infer_type
from tasks.mapping.leaves import Leaf
from tasks.mapping.sample_documents import Digits
from tests.support.small_layouts import as_read

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
UUID = "0123ABCD-4567-89ab-cdef-0123456789ab"


def inferred(name: str, text: str, layout: str = "json") -> InferredType:
    """The type of the values in a JSON array."""
    return infer_type(Leaf((name,), json.loads(text, parse_int=Digits, parse_float=Digits)), layout)


def flat(name: str, *values: str) -> InferredType:
    return infer_type(Leaf((name,), values), "flat")


# Name of the key, values as JSON, type, options.
DOCUMENTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("n", "[1, -2, null]", "int8", {}),
    ("n", "[9223372036854775807]", "int8", {}),
    ("n", "[9223372036854775808]", "numeric", {}),
    ("n", "[-9223372036854775808]", "int8", {}),
    ("n", "[-9223372036854775809]", "numeric", {}),
    ("n", "[1e2, 123456789012345678901234567890]", "numeric", {}),
    ("n", "[1, 2.5]", "float8", {}),
    ("n", "[0.1, 1e300, 10.357019999999999]", "float8", {}),
    ("n", "[0.12345678901234567890]", "numeric", {}),
    ("n", "[0.10000000000000000001]", "numeric", {}),
    ("n", "[1e400]", "numeric", {}),
    ("n", "[9223372036854775809]", "numeric", {}),
    ("n", json.dumps(list(range(300))), "int8", {}),
    ("price", "[1.25]", "numeric", {}),
    ("unit_price", "[1.25, 2]", "numeric", {}),
    ("n", "[true, false]", "bool", {}),
    ("n", '[true, "true"]', "text", {}),
    ("n", '[1, "1"]', "text", {}),
    ("code", '["1", "02"]', "text", {}),
    ("code", '["1", "2"]', "text", {}),
    ("total", '["12.50", "0.99"]', "numeric", {}),
    ("n", "[null]", "text", {}),
    ("n", "[]", "text", {}),
    ("n", "[{}]", "jsonb", {}),
    ("n", "[[1], 5]", "jsonb", {}),
    ("n", '["{\\"a\\": 1}", "[2]"]', "jsonb", {"json": True}),
    ("id", f'["{UUID}"]', "uuid", {}),
    ("id", f'["{UUID}", "x"]', "text", {}),
    ("md5", '["0123456789abcdef0123456789abcdef"]', "text", {}),
    ("id", f'["{ULID}", "{ULID.lower()}"]', "uuid", {"ulid": True}),
    ("id", f'["8{ULID[1:]}"]', "text", {}),
    ("at", '["2024-01-02T03:04:05Z", "2024-01-02 03:04+02:00"]', "timestamptz", {}),
    ("at", '["2024-01-02T03:04:05Z", "2024-02-30T00:00:00Z"]', "text", {}),
    ("at", '["2024-01-02"]', "date", {}),
    ("at", '["2024-02-30"]', "text", {}),
    ("at", "[1700000000]", "timestamptz", {}),
    ("createdAt", "[1700000000000]", "timestamptz", {}),
    ("event_time_us", "[1700000000000000]", "timestamptz", {}),
    ("ts", "[1700000000000000000]", "timestamptz", {"unit": "ns"}),
    ("ts", "[1700000000, 0]", "int8", {}),
    ("ts", "[1700000000, 1700000000000]", "int8", {}),
    ("serial", "[1700000000]", "int8", {}),
    ("ts", "[631152000, 4102444799]", "timestamptz", {}),
    ("ts", "[631151999]", "int8", {}),
    ("ts", "[4102444800]", "int8", {}),
    ("ts", "[631152000000, 4102444799999]", "timestamptz", {}),
    ("ts", "[631151999999]", "int8", {}),
    ("ts", "[4102444800000]", "int8", {}),
    ("ts", "[631152000000000, 4102444799999999]", "timestamptz", {}),
    ("ts", "[631151999999999]", "int8", {}),
    ("ts", "[4102444800000000]", "int8", {}),
    ("ts", "[631152000000000000, 4102444799999999999]", "timestamptz", {"unit": "ns"}),
    ("ts", "[631151999999999999]", "int8", {}),
    ("ts", "[4102444800000000000]", "int8", {}),
    ("at", '["2024-01-02T03:04:05+0200", "2024-01-02"]', "text", {}),
    ("at", '["Mon 1.2.2024", "x"]', "text", {}),
    ("at", '["1 Jan 2024 10:30:00"]', "timestamptz", {"format": "%d %b %Y %H:%M:%S"}),
    ("at", '["25/12/2024 10:30 PM"]', "timestamptz", {"format": "%d/%m/%Y %I:%M %p"}),
    ("at", '["Dec 25, 2024"]', "date", {"format": "%b %d, %Y"}),
    ("n", '["true", "false"]', "text", {}),
    ("n", '["{}", "x"]', "text", {}),
    ("n", '[{}, "x", true]', "jsonb", {}),
    ("n", '[{}, "NA"]', "jsonb", {}),
    ("at", '["25/12/2024 10:30"]', "timestamptz", {"format": "%d/%m/%Y %H:%M"}),
    ("at", '["12/25/2024"]', "date", {"format": "%m/%d/%Y"}),
    ("at", '["01/02/2024", "02/01/2024"]', "text", {}),
    ("at", '["10/Oct/2000:13:55:36 -0700"]', "timestamptz", {"format": "%d/%b/%Y:%H:%M:%S %z"}),
    ("at", '["Tue, 15 Nov 1994 12:45:26 GMT"]', "timestamptz", {"format": "%a, %d %b %Y %H:%M:%S GMT"}),
]


@pytest.mark.parametrize(("name", "text", "sql", "options"), DOCUMENTS, ids=lambda value: str(value)[:40])
def test_values_of_documents_have_the_strictest_type_that_takes_them_all(
    name: str, text: str, sql: str, options: dict[str, Any]
) -> None:
    found = inferred(name, text)
    assert (found.sql, found.options) == (sql, options)


FLAT: list[tuple[tuple[str, ...], str]] = [
    (("1", "-2"), "int8"),
    (("1", "007"), "text"),
    (("1", "+2"), "text"),
    (("1", "1_000"), "text"),
    (("1.5", as_read("NaN")), "float8"),
    (("1", "2."), "text"),
    (("true", "False"), "bool"),
    (("yes", "no"), "text"),
    (("{}", "[1]"), "jsonb"),
    ((UUID,), "uuid"),
    (("١",), "text"),
]


@pytest.mark.parametrize(("values", "sql"), FLAT, ids=str)
def test_values_of_flat_fields_are_texts(values: tuple[str, ...], sql: str) -> None:
    found = flat("x", *values)
    assert (found.sql, found.options, found.nulls) == (sql, {}, frozenset())


def test_words_for_a_missing_value_are_nulls_if_all_others_have_a_type() -> None:
    found = flat("x", "1", "NA", "", "2")
    assert (found.sql, found.nulls) == ("int8", {"NA", ""})
    assert flat("x", "a", "NA").nulls == frozenset()
    assert (flat("x", "NA").sql, flat("x", "NA").nulls) == ("text", frozenset())
    found = inferred("mag", '[1.5, "NA"]')
    assert (found.sql, found.nulls) == ("float8", {"NA"})


def test_a_format_that_cannot_be_known_is_left_to_the_reader() -> None:
    found = inferred("at", '["01/02/2024", "02/01/2024"]')
    assert found.note == "a time of the format %d/%m/%Y or %m/%d/%Y: choose one"


NOTES = {
    '["2024-01-02T03:04:05"]': "without an offset: UTC, unless a timezone is named",
    '["2024-01-02T03:04:05Z", "2024-01-02T03:04"]': "without an offset: UTC, unless a timezone is named",
    '["2024-01-02T03:04:05Z", "2024-01-02 03:04+02:00", "2024-01-02 03:04-0230"]': "",
    '["25/12/2024 10:30"]': "without an offset: UTC, unless a timezone is named",
    '["25/12/2024 10:30 PM"]': "without an offset: UTC, unless a timezone is named",
    '["25/12/2024"]': "",
    '["10/Oct/2000:13:55:36 -0700"]': "",
    '["Tue, 15 Nov 1994 12:45:26 GMT"]': "",
    '["2024-01-02"]': "",
    "[1700000000]": "s since 1970",
    "[1700000000000]": "ms since 1970",
    "[1700000000000000]": "us since 1970",
    "[1700000000000000000]": "ns since 1970",
    f'["{ULID}"]': "a ULID, as the UUID with the same bits",
    '[true, "x"]': "booleans and other values",
    '[true, 5, "x"]': "booleans and other values",
    '[5, "x"]': "numbers and texts",
    "[null]": "no value in the sample",
    '["x"]': "",
    "[5]": "",
}


@pytest.mark.parametrize("text", NOTES, ids=ascii)
def test_what_a_person_should_check_is_noted(text: str) -> None:
    assert inferred("at", text).note == NOTES[text]


@pytest.mark.parametrize(
    ("sql", "is_time"), [("timestamptz", True), ("date", True), ("text", False), ("time", False), ("timestamp", False)]
)
def test_only_dates_and_moments_are_times(sql: str, is_time: bool) -> None:
    assert InferredType(sql).is_time == is_time


def test_every_value_decides_about_a_format() -> None:
    days = [f"{day:02}/{1 + day % 12:02}/2024" for day in range(1, 13)] * 3
    assert inferred("at", json.dumps([*days, "25/12/2024"])).options == {"format": "%d/%m/%Y"}
    assert inferred("at", json.dumps([*days, "25/12/2024", "12/25/2024"])).sql == "text"
    assert inferred("at", json.dumps(days)).note.startswith("a time of the format %d/%m/%Y or %m/%d/%Y")


def test_a_time_without_an_offset_is_noted() -> None:
    assert inferred("at", '["2024-01-02T03:04:05"]').note.startswith("without an offset: UTC")
    assert inferred("at", '["2024-01-02T03:04:05Z"]').note == ""
