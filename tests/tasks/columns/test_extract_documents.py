"""Documents to columns: values that keep the type they have in JSON, those that become texts, and faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping.column_source import ColumnSource, key_source
from tasks.columns.extract_documents import extract_documents
from tasks.columns.extracted_values import ExtractedValues
from tests.support.decoded_entries import groups_of
from tests.support.small_layouts import layout_of

INT64, TEXT, BOOL = pa.int64(), pa.string(), pa.bool_()
INTS, TEXTS = pa.list_(pa.int64()), pa.list_(pa.string())


def extracted(
    documents: Sequence[str], types: dict[str, str], sources: dict[str, ColumnSource] | None = None, **mapping: Any
) -> ExtractedValues:
    (group,) = groups_of([[b"data", document.encode(errors="surrogateescape")] for document in documents])
    return extract_documents(group, layout_of(types, sources, **mapping))


def values_of(found: ExtractedValues, key: str = "a") -> tuple[pa.DataType, list[Any]]:
    """The Arrow type and the values of a key."""
    array = found.texts.get(key, found.json.get(key))
    assert array is not None
    array.validate(full=True)
    return array.type, array.to_pylist()


def of_values(values: Sequence[str], kind: str, **options: Any) -> tuple[pa.DataType, list[Any]]:
    """What becomes of JSON values that a column of this type reads. None of them is a fault."""
    source = {"a": ColumnSource(("", "a", ""), **options)} if options else None
    found = extracted([f'{{"a": {value}}}' for value in values], {"a": kind}, source)
    assert found.faults == {}
    return values_of(found)


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_integers_of_integer_columns_stay_numbers(kind: str) -> None:
    assert of_values(["1", "null", "-5", "0"], kind) == (INT64, [1, None, -5, 0])
    assert of_values([str(2**63 - 1), str(-(2**63))], kind) == (INT64, [2**63 - 1, -(2**63)])


def test_booleans_of_boolean_columns_stay_booleans() -> None:
    assert of_values(["true", "null", "false"], "boolean") == (BOOL, [True, None, False])


@pytest.mark.parametrize("kind", ["text", "numeric", "double precision", "date", "uuid"])
def test_numbers_and_booleans_of_other_columns_are_texts(kind: str) -> None:
    assert of_values(["1", "null", "0"], kind) == (TEXT, ["1", None, "0"])
    assert of_values(["true", "false"], kind) == (TEXT, ["true", "false"])
    assert of_values(["7", "-0", "1.50", '"x"', "true", "0"], kind) == (TEXT, ["7", "-0", "1.50", "x", "true", "0"])


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["1", '"2"'], ["1", "2"]),
        (["1", "2.50"], ["1", "2.50"]),
        (["1", "true", "null", "false"], ["1", "true", None, "false"]),
        (["0", "-0", "x-0x"], ["0", "-0", "0"]),
        (["1", str(2**63)], ["1", str(2**63)]),
        (["1", str(-(2**63) - 1)], ["1", str(-(2**63) - 1)]),
    ],
)
def test_one_value_of_another_type_makes_all_of_an_integer_column_texts(values: list[str], texts: list[str]) -> None:
    documents = [f'{{"a": {value}}}' if value != "x-0x" else '{"a": 0, "b": [-0]}' for value in values]
    found = extracted([*documents, '{"a": "last"}'], {"a": "integer"})
    assert found.faults == {}
    assert values_of(found) == (TEXT, [*texts, "last"])


@pytest.mark.parametrize(
    "options",
    [{"default": "7"}, {"null": ("x",)}, {"changes": ("trim",)}, {"alternatives": ("b",)}, {"json": True}],
    ids=lambda options: next(iter(options)),
)
def test_values_whose_text_a_mapping_changes_are_texts(options: dict[str, Any]) -> None:
    assert of_values(["1", "2"], "integer", **options) == (TEXT, ["1", "2"])
    assert of_values(["true"], "boolean", **options) == (TEXT, ["true"])
    if "json" not in options:
        assert of_values(["[1, 2]"], "integer[]", **options) == (pa.binary(), [b"[1, 2]"])


def test_a_key_of_columns_with_several_types_is_a_text() -> None:
    for types in ({"a": "integer", "b": "text"}, {"b": "boolean", "a": "integer"}):
        assert values_of(extracted(['{"a": 1}'], types, {"b": key_source("a")})) == (TEXT, ["1"])
    same = {"a": "integer", "b": "bigint"}
    assert values_of(extracted(['{"a": 1}'], same, {"b": key_source("a")})) == (INT64, [1])
    template = {"b": ColumnSource(("", "a", "!"))}
    assert values_of(extracted(['{"a": 1}'], same, template)) == (TEXT, ["1"])


def test_arrays_of_one_dimension_stay_lists() -> None:
    assert of_values(["[1, null, -5]", "null", "[]"], "integer[]") == (INTS, [[1, None, -5], None, []])
    assert of_values(['["x", null]', "null", "[]"], "text[]") == (TEXTS, [["x", None], None, []])
    assert of_values(["[]", "[null]"], "text[]") == (TEXTS, [[], [None]])
    assert of_values(["[1, 2.50]", '["x", 3]', "[]", "null"], "text[]") == (
        TEXTS,
        [["1", "2.50"], ["x", "3"], [], None],
    )
    assert of_values([f"[{2**63}, 0]", "[-1]"], "numeric[]") == (TEXTS, [[str(2**63), "0"], ["-1"]])


@pytest.mark.parametrize(
    "value", ["[[1]]", '"{1}"', "[true]", '[{"b": 1}]', "[1, -0]", "[-0]", "[1,\t-0 ]", "5", "true"]
)
def test_one_array_of_another_kind_makes_all_of_its_batch_json(value: str) -> None:
    kept = value[1:-1].encode() if value.startswith('"') else value.encode()
    assert of_values(["[1]", value, "null", '"x"'], "integer[]") == (pa.binary(), [b"[1]", kept, None, b"x"])


@pytest.mark.parametrize("value", ["[1, -5, 10]", "[-0.5]", '[1, 2], "b": "a-0"', '["-0"]', "[20, 0]"])
def test_what_is_no_negative_zero_keeps_the_lists(value: str) -> None:
    assert pa.types.is_list(of_values([value], "numeric[]")[0])


def test_arrays_of_json_columns_are_json() -> None:
    assert of_values(['[{"b": 1.0}, "x"]'], "jsonb[]") == (pa.binary(), [b'[{"b": 1.0}, "x"]'])
    assert of_values(["[1, 2]"], "json[]") == (pa.binary(), [b"[1, 2]"])
    assert of_values(["[1, 2.0]", "null", '"x"'], "jsonb") == (pa.binary(), [b"[1, 2.0]", None, b'"x"'])


def test_texts_that_mean_null_keep_arrays_as_json() -> None:
    found = extracted(['{"a": [1], "b": 5}'], {"a": "integer[]", "b": "integer"}, null=("NA",))
    assert values_of(found) == (pa.binary(), [b"[1]"])
    assert values_of(found, "b") == (INT64, [5])


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_blocks_of_documents_give_what_all_of_them_give(count: int) -> None:
    """The last document decides what the first block becomes, too."""
    numbers = [f'{{"a": {n}, "b": [{n}], "c": {n}}}' for n in range(count)]
    types = {"a": "integer", "b": "integer[]", "c": "text"}
    found = extracted(numbers, types)
    assert values_of(found) == (INT64, list(range(count)))
    assert values_of(found, "b") == (INTS, [[n] for n in range(count)])
    assert values_of(found, "c") == (TEXT, [str(n) for n in range(count)])
    last = '{"a": "x", "b": ["y"]}'
    found = extracted([*numbers, last, "{"], types)
    assert values_of(found) == (TEXT, [*map(str, range(count)), "x", None])
    assert values_of(found, "b") == (TEXTS, [*([str(n)] for n in range(count)), ["y"], None])
    assert list(found.faults) == [count + 1]
    nested = extracted([*numbers, '{"b": [[1]]}'], types)
    assert values_of(nested, "b") == (pa.binary(), [*(b"[%d]" % n for n in range(count)), b"[[1]]"])


def test_a_fault_of_any_block_is_that_of_its_document() -> None:
    rows = (0, 8, 999, 1000, 1001, 1008, 1999, 2000, 2500)
    found = extracted(['{"a": []}' if n in rows else '{"a": 1}' for n in range(2501)], {"a": "integer"})
    assert tuple(found.faults) == rows


def test_booleans_of_one_block_and_texts_of_another_are_texts() -> None:
    found = extracted(['{"a": true}'] * 1000 + ['{"a": "no"}'], {"a": "boolean"})
    assert values_of(found) == (TEXT, ["true"] * 1000 + ["no"])


def test_no_documents_give_empty_columns_of_the_same_types() -> None:
    (group,) = groups_of([[b"data", b"{}"]])
    layout = layout_of({"a": "integer", "b": "boolean", "c": "jsonb", "d": "text"})
    found = extract_documents(group.take(pa.array([], pa.int64()).to_numpy()), layout)
    assert [values_of(found, key) for key in "abcd"] == [(INT64, []), (BOOL, []), (pa.binary(), []), (TEXT, [])]


@pytest.mark.parametrize("kind", ["integer", "text", "boolean"])
@pytest.mark.parametrize(("value", "found"), [('{"b": 1}', "object"), ("[1]", "array"), ("[]", "array")])
def test_an_object_or_an_array_is_a_fault_of_its_document_only(kind: str, value: str, found: str) -> None:
    documents = ['{"a": 1}', f'{{"a": {value}}}', '{"a": true}', '{"a": "x"}', '{"a": -0}', '{"a": 0}']
    result = extracted(documents, {"a": kind})
    assert values_of(result) == (TEXT, ["1", None, "true", "x", "-0", "0"])
    reason = f"Expected `str | int | float | bool | null`, got `{found}` - at `$.a`"
    assert result.faults == {1: ("data", reason)}


def test_each_fault_names_the_field_of_the_document_and_the_first_reason_stays() -> None:
    documents = ['{"a": [], "b": {}}', "{", '{"a": 1, "b": 2}', "[]", '{"a": {}, "b": 1}', '{"a": "\udcff"}']
    (group,) = groups_of([[b"body", document.encode(errors="surrogateescape")] for document in documents])
    found = extract_documents(group, layout_of({"a": "integer", "b": "text"}, document_field=b"body"))
    assert sorted(found.faults) == [0, 1, 3, 4, 5]
    assert {field for field, _ in found.faults.values()} == {"body"}
    assert found.faults[0][1].endswith("`array` - at `$.a`")
    assert "truncated" in found.faults[1][1]
    assert "array" in found.faults[3][1]
    assert values_of(found)[1] == [None, None, 1 if values_of(found)[0] == INT64 else "1", None, None, None]
    assert values_of(found, "b")[1] == [None, None, "2", None, "1", None]


def test_an_entry_without_the_field_is_a_fault_and_not_an_empty_document() -> None:
    (group,) = groups_of([[b"data", b'{"a": 5}']])
    lacking = type(group)(pa.array([b"1-0", b"2-0"]), (b"data",), (pa.array([None, b'{"a": 5}'], pa.binary()),))
    found = extract_documents(lacking, layout_of({"a": "integer"}))
    assert values_of(found) == (INT64, [None, 5])
    assert found.faults == {0: ("data", "expected a field 'data', found none")}


def test_a_value_that_only_the_exact_reader_can_read_is_read_among_others() -> None:
    """An earlier value of a repeated key does not fit, or is not UTF-8; the last one counts."""
    documents = [
        '{"a": 1, "b": {"c": 2}}',
        '{"a": 3, "b": [], "b": {"c": 4}}',
        '{"a": 5, "b": 7}',
        '{"a": "\udcff", "a": 6, "b": {"c": 8}}',
    ]
    found = extracted(documents, {"a": "integer", "x": "text"}, {"x": key_source("b.c")})
    assert found.faults == {}
    assert [str(value) for value in values_of(found)[1]] == ["1", "3", "5", "6"]
    assert values_of(found, "b.c") == (TEXT, ["2", "4", None, "8"])


@pytest.mark.parametrize("bad", ['{"a": {"x": "\udcff"}}', '{"a": [', '{"a": {"x": "\\ud800"}}'])
def test_bad_strings_in_json_are_faults_of_their_document_only(bad: str) -> None:
    documents = ['{"a": {"x": "1"}}', bad, '{"a": {"x": "3"}}']
    types = {"j": "jsonb", "x": "text"}
    sources = {"j": key_source("a"), "x": key_source("a.x")}
    found = extracted(documents, types, sources)
    assert values_of(found, "a.x") == (TEXT, ["1", None, "3"])
    assert list(found.faults) == [1]
    assert found.faults[1][0] == "data"
    assert values_of(found)[1] == [b'{"x": "1"}', None, b'{"x": "3"}']


SCALAR = st.none() | st.booleans() | st.integers() | st.sampled_from([0, -1, 1.5, -0.0]) | st.text(max_size=3)


def as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, str) else json.dumps(value)


@given(st.lists(SCALAR, min_size=1, max_size=6), st.sampled_from(["integer", "boolean", "text", "numeric"]))
def test_any_scalars_are_what_their_texts_are(values: list[Any], kind: str) -> None:
    _, found = of_values([json.dumps(value) for value in values], kind)
    assert [as_text(value) for value in found] == [as_text(value) for value in values]


@given(
    st.lists(st.none() | st.lists(st.none() | st.integers() | st.text(max_size=3) | st.just(0.25), max_size=4)),
    st.sampled_from(["integer[]", "text[]"]),
)
def test_any_arrays_of_texts_and_numbers_are_lists_of_the_same(values: list[Any], kind: str) -> None:
    if not values:
        return
    arrow, found = of_values([json.dumps(value) for value in values], kind)
    assert arrow in (INTS, TEXTS)
    expected = [None if value is None else [as_text(element) for element in value] for value in values]
    assert [None if value is None else [as_text(element) for element in value] for value in found] == expected


@pytest.mark.parametrize("kind", ["text", "integer", "text[]"])
def test_a_value_that_cannot_be_used_is_a_fault_only_where_none_before_it_is_used(kind: str) -> None:
    """In a template every key is needed."""
    bad = "{}" if kind == "text[]" else "[[1]]"
    documents = [f'{{"a": "5", "b": {bad}}}', f'{{"b": {bad}}}', f'{{"a": {bad}, "b": "6"}}', '{"b": "7"}', "{}"]
    found = extracted(documents, {"c": kind}, {"c": ColumnSource(("", "a", ""), alternatives=("b",))})
    assert sorted(found.faults) == [1, 2]
    assert [found.faults[entry][1].endswith(f"at `$.{key}`") for entry, key in ((1, "b"), (2, "a"))] == [True, True]
    if kind == "text":
        template = extracted(documents, {"c": kind}, {"c": ColumnSource(("", "a", "/", "b", ""))})
        assert sorted(template.faults) == [0, 1, 2]
