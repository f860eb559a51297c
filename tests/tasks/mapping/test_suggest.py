"""What a proposal says: every line of its section, and its notes."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.entries import page_to_columns
from tasks.mapping.suggest import ProposedMapping, suggest
from tests.support.suggested import flat_entries, json_entries

NO_KEY = "no key was found: each entry becomes one row; add a primary key to detect duplicate entries"


def of_stream(groups: Any, table: Table | None = None) -> ProposedMapping:
    return suggest("s", groups, True, table, "found", "shop.found")


def lines(groups: Any, table: Table | None = None) -> list[str]:
    """The lines of the section after its head."""
    head, table_line, *rest = of_stream(groups, table).toml.split("\n")
    assert (head, table_line) == ('[streams."s"]', 'table = "shop.found"')
    return rest


def plain_table(*columns: TableColumn) -> Table:
    return Table("public", "found", TableKind.PLAIN, columns)


def test_fields_with_the_names_of_the_columns_need_no_line() -> None:
    rows = [{"id": "x", "at": "2024-01-02T03:04:05Z"}]
    assert lines(flat_entries(rows)) == []
    found = of_stream(flat_entries(rows))
    assert (found.notes, found.sampled, found.unreadable) == ([], 1, 0)


def test_a_field_called_data_is_said_to_be_no_document() -> None:
    assert lines(flat_entries([{"id": "x", "data": "5"}])) == [
        'layout = "flat"',
        "",
        *COLUMNS,
        'time = { entry = "time" }',
    ]


COLUMNS = ['[streams."s".columns]']


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"data": '{"n": 1}'}], []),
        ([{"data": '{"n": 1}', "other": "x"}], []),
        ([{"data": '{"n": 1}', "n": "x"}], ['layout = "json"']),
        ([{"body": '{"n": 1}'}], ['layout = "json"', 'field = "body"']),
        ([{"payload": '{"n": 1}'}], ['layout = "json"', 'field = "payload"']),
    ],
)
def test_the_field_with_the_document_is_named_unless_it_is_the_usual_one(
    entries: list[dict[str, str]], expected: list[str]
) -> None:
    assert lines(flat_entries(entries)) == [*expected, "", *COLUMNS, 'time = { entry = "time" }']


def test_encodings_are_named() -> None:
    encoded = gzip.compress(b'{"n": 1}')
    for value, encoding in ((encoded, '["gzip"]'), (b64encode(encoded), '["base64", "gzip"]')):
        assert lines(page_to_columns([(b"1-0", [b"data", value])]))[0] == f"encoding = {encoding}"


def test_entries_without_a_readable_document_are_noted() -> None:
    found = of_stream(flat_entries([{"data": '{"n": 1}'}] * 3 + [{"data": "{"}]))
    assert found.notes == ["1 of 4 entries have no readable document", NO_KEY]
    assert (found.sampled, found.unreadable) == (3, 1)
    assert of_stream(flat_entries([{"data": '{"n": 1}'}])).notes == [NO_KEY]


def test_elements_are_the_rows_of_documents_only() -> None:
    elements = [{"id": f"e{n}", "at": "2024-01-02T03:04:05Z"} for n in range(3)]
    found = of_stream(json_entries([{"rows": elements}, {"rows": elements[:1]}]))
    assert found.sampled == 4
    assert found.toml.split("\n")[2:] == ['each = "rows"']
    without_time = json_entries([{"rows": [{"id": "0123abcd-4567-89ab-cdef-0123456789ab"}]}])
    assert of_stream(without_time).sampled == 1
    assert "each" not in of_stream(without_time).toml
    assert lines(flat_entries([{"rows": json.dumps(elements)}])) == ["", *COLUMNS, 'time = { entry = "time" }']


def test_a_word_that_means_null_in_several_columns_is_named_once() -> None:
    rows = [{"a": "1", "b": "NA", "c": "x", "d": ""}, {"a": "NA", "b": "2", "c": "NA", "d": "true"}]
    rows += [{"a": "-", "b": "", "c": "", "d": "false"}]
    assert lines(flat_entries(rows)) == [
        'null = ["", "NA"]', "", *COLUMNS, 'time = { entry = "time" }', 'a = { null = ["-", "NA"] }',
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["NA", "-"])
def test_a_word_that_means_null_in_one_column_is_named_there(word: str) -> None:
    rows = [{"a": "1", "b": "x"}, {"a": word, "b": word}]
    assert lines(flat_entries(rows)) == ["", *COLUMNS, 'time = { entry = "time" }', f'a = {{ null = ["{word}"] }}']


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"n": 1}, []),
        ({"o": {"n": 1}}, ['n = "o.n"']),
        ({"N": 1}, ['n = "N"']),
        ({"a.b": 1}, ["a_b = '\"a.b\"'"]),
        ({"a{b}": 1}, ["a_b = '{\"a{b}\"}'"]),
        ({"n": "{}"}, ["n = { json = true }"]),
        ({"N": "{}"}, ['n = { key = "N", json = true }']),
        ({"o": {"n": "[1]"}}, ['n = { key = "o.n", json = true }']),
    ],
)
def test_a_column_names_its_key_unless_it_is_called_like_it(document: dict[str, Any], expected: list[str]) -> None:
    assert lines(json_entries([document])) == ["", *COLUMNS, 'time = { entry = "time" }', *expected]


def columns_of(*columns: tuple[str, str, bool]) -> Sequence[TableColumn]:
    return [TableColumn(name, kind, kind, nullable=nullable) for name, kind, nullable in columns]


def test_columns_of_a_table_without_a_key_are_noted_and_the_others_are_named() -> None:
    table = plain_table(*columns_of(("n", "int8", True), ("colour", "text", False), ("size", "int4", True)))
    found = of_stream(json_entries([{"n": 1, "rest": {}}]), table)
    assert found.table is None
    assert found.notes == [
        "no key was found for colour (text), which every row must have: name its source",
        "no key was found for size (int4): it gets its default",
    ]
    assert lines(json_entries([{"n": 1}]), table) == []
    assert lines(json_entries([{"N": 1}]), table) == ["", *COLUMNS, 'n = "N"']
