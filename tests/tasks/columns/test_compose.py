"""The value of a column from those of its keys: alternatives, templates, nulls, changes and defaults."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from infra.mapping.column_source import ColumnSource
from tasks.columns.compose import absent_keys, column_values
from tasks.columns.extract import extract
from tests.support.decoded_entries import groups_of
from tests.support.small_layouts import layout_of


def values_of(documents: list[str], kind: str, source: ColumnSource, **mapping: Any) -> pa.Array:
    layout = layout_of({"c": kind}, {"c": source}, layout="json", **mapping)
    (group,) = groups_of([[b"data", document.encode()] for document in documents])
    (column,) = layout.columns
    found = column_values(column, extract(group, layout, "json"), group, layout)
    found.validate(full=True)
    return found


def of(kind: str, documents: list[str], *pieces: str, **options: Any) -> list[Any]:
    mapping = {name: options.pop(name) for name in ("mapping_null",) if name in options}
    source = ColumnSource(pieces or ("", "a", ""), **options)
    nulls = {"null": mapping["mapping_null"]} if mapping else {}
    return list(values_of(documents, kind, source, **nulls).to_pylist())


A = ['{"a": " Né "}', '{"a": "NA"}', "{}", '{"a": ""}']


def test_the_value_of_a_key_is_itself() -> None:
    assert of("text", A) == [" Né ", "NA", None, ""]


def test_changes_are_made_in_their_order_after_nulls() -> None:
    assert of("text", A, changes=("trim",)) == ["Né", "NA", None, ""]
    assert of("text", A, changes=("trim", "upper")) == ["NÉ", "NA", None, ""]
    assert of("text", A, changes=("lower",)) == [" né ", "na", None, ""]
    assert of("text", A, changes=("lower",), null=("NA",)) == [" né ", None, None, ""]
    assert of("text", A, changes=("trim",), null=("Né",)) == ["Né", "NA", None, ""]


def test_texts_that_mean_null_become_null_and_then_the_default() -> None:
    assert of("text", A, null=("NA", "")) == [" Né ", None, None, None]
    assert of("text", A, null=("NA", ""), default="d") == [" Né ", "d", "d", "d"]
    assert of("text", A, default="d") == [" Né ", "NA", "d", ""]
    assert of("text", A, default="d", changes=("upper",)) == [" NÉ ", "NA", "d", ""]
    assert of("text", A, null=("none of them",)) == [" Né ", "NA", None, ""]


def test_the_nulls_of_a_mapping_hold_for_columns_without_their_own() -> None:
    assert of("text", A, mapping_null=("NA",)) == [" Né ", None, None, ""]
    assert of("text", A, mapping_null=("NA",), null=("",)) == [" Né ", "NA", None, None]


def test_numbers_and_booleans_can_mean_null() -> None:
    documents = ['{"a": -999}', '{"a": 5}', "{}"]
    assert of("integer", documents) == [-999, 5, None]
    assert of("integer", documents, null=("-999",)) == [None, "5", None]
    assert of("integer", documents, mapping_null=("-999",)) == [None, "5", None]
    assert of("integer", documents, default="7") == ["-999", "5", "7"]
    assert of("boolean", ['{"a": true}', "{}"], mapping_null=("false",)) == ["true", None]
    assert of("boolean", ['{"a": true}', '{"a": false}'], mapping_null=("false",)) == ["true", None]


def test_json_that_means_null_is_spelled_as_it_stands_or_as_a_string() -> None:
    documents = ['{"a": "NA"}', '{"a": -999}', '{"a": {"b": 1}}', '{"a": "x"}', "{}"]
    for nulls in ({"null": ("NA", "-999")}, {"mapping_null": ("NA", "-999")}):
        assert of("jsonb", documents, **nulls) == [None, None, b'{"b": 1}', b'"x"', None]
        defaulted = of("jsonb", documents, default="{}", **nulls)
        assert defaulted == [b"{}", b"{}", b'{"b": 1}', b'"x"', b"{}"]
    assert of("jsonb", documents, changes=("upper",))[3] == b'"x"'
    assert of("jsonb", documents, default="[]")[4] == b"[]"


def test_alternatives_are_read_in_turn() -> None:
    documents = ['{"a": 1, "b": 2}', '{"b": 2, "c": 3}', '{"a": null, "c": 3}', "{}"]
    assert of("text", documents, alternatives=("b", "c")) == ["1", "2", "3", None]
    assert of("text", documents, alternatives=("c", "b"), default="d") == ["1", "3", "3", "d"]
    assert of("jsonb", documents, alternatives=("b", "c")) == [b"1", b"2", b"3", None]
    assert of("text", documents[:1], alternatives=("b",)) == ["1"]


def test_a_template_needs_all_of_its_keys() -> None:
    documents = ['{"a": 1, "b": true}', '{"a": 1}', '{"a": "", "b": "x"}']
    assert of("text", documents, "v", "a", "-", "b", "!") == ["v1-true!", None, "v-x!"]
    assert of("text", documents, "v", "a", "-", "b", "!", default="d") == ["v1-true!", "d", "v-x!"]
    assert of("jsonb", documents, "", "a", "", "b", "") == ["1true", None, "x"]


def test_a_constant_is_the_same_for_every_entry() -> None:
    assert of("text", A, "same") == ["same"] * 4
    assert of("text", A, "") == [""] * 4


@pytest.mark.parametrize(
    ("whole", "values"),
    [
        ("document", [b'{"a": 1, "x": 2}', b"{}"]),
        ("unmapped", [b'{"a":1,"x":2}', b"{}"]),
        ("entry_id", ["1-0", "2-0"]),
        ("entry_time", ["1", "2"]),
    ],
)
def test_what_is_not_of_a_key(whole: Any, values: list[Any]) -> None:
    kind = "bigint" if whole == "entry_time" else "text"
    assert values_of(['{"a": 1, "x": 2}', "{}"], kind, ColumnSource(whole=whole)).to_pylist() == values


def test_no_entries_have_no_values() -> None:
    layout = layout_of({"c": "text"}, {"c": ColumnSource(("", "a", ""), default="d", null=("NA",))}, layout="json")
    (group,) = groups_of([[b"data", b"{}"]])
    none = group.take(pa.array([], pa.int64()).to_numpy())
    assert column_values(layout.columns[0], extract(none, layout, "json"), none, layout).to_pylist() == []


def test_the_keys_that_an_entry_lacks_are_named() -> None:
    source = ColumnSource(("", "a", ".", "b", ".", "c", ""))
    layout = layout_of({"c": "jsonb"}, {"c": source}, layout="json")
    (group,) = groups_of([[b"data", b'{"b": 1}'], [b"data", b'{"a": 1, "b": 2, "c": 3}']])
    found = extract(group, layout, "json")
    assert absent_keys(layout.columns[0], found, 0) == ["a", "c"]
    assert absent_keys(layout.columns[0], found, 1) == []
    layout = layout_of({"c": "jsonb"}, {"c": ColumnSource(("", "a", ""))}, layout="json")
    assert absent_keys(layout.columns[0], extract(group, layout, "json"), 0) == ["a"]
