"""Arrays from JSON and from literals, without a server."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.columns.types.array_literals import format_literal, parse_literal
from tasks.columns.types.arrow_values import as_string
from tasks.columns.types.json_arrays import parse_flat_arrays, parse_json_string
from tasks.columns.types.registry import type_of
from tests.support.strategies import TEXT
from tests.support.type_cases import column_of
from tests.support.type_server import SOURCE

NAMES = ("integer[]", "double precision[]", "numeric[]", "text[]", "boolean[]", "uuid[]", "jsonb[]", "mood[]")
TIMES = ("timestamp with time zone[]", "date[]")
SCALARS = st.sampled_from(
    ["1", "-0", "2.50", "1e3", "true", "null", '"a"', '"2024-02-29"', '"NULL"', '""', "99999999999"]
)
ARRAYS = st.recursive(st.lists(SCALARS, max_size=4), lambda inner: st.lists(inner | SCALARS, max_size=3), max_leaves=6)
DOCUMENTS = (
    ARRAYS.map(lambda array: written(array))
    | st.sampled_from(
        ["{}", "{1,2}", '{a,"b c",NULL}', "{{1},{2}}", "{", "[", "x", "", '"{1}"', "null", '[{"a":1}]', " [1]"]
    )
    | st.lists(st.integers(-5, 5)).map(str)
)


def written(array: Any) -> str:
    """The JSON of nested lists of JSON scalars."""
    return array if isinstance(array, str) else f"[{', '.join(map(written, array))}]"


def results(name: str, documents: list[str | None]) -> list[object]:
    """Each array as the text for the server, or whether it is bad."""
    kind = type_of(column_of(name))
    parsed = kind.parse(pa.array(documents, pa.string()), SOURCE)
    values = parsed.values
    texts = as_string(kind.to_text(values) if values.type == kind.arrow else values).to_pylist()
    assert [text is None for text in texts] == [document is None for document in documents]
    bad = [False] * len(texts) if parsed.bad is None else parsed.bad.tolist()
    return [wrong or text for wrong, text in zip(bad, texts, strict=True)]


@settings(max_examples=300)
@given(st.sampled_from(NAMES + TIMES), st.lists(DOCUMENTS | st.none(), max_size=6))
def test_what_an_array_means_does_not_depend_on_its_neighbours(name: str, documents: list[str | None]) -> None:
    together = results(name, documents)
    for document, found in zip(documents, together, strict=True):
        (alone,) = results(name, [document])
        assert canonical(name, found) == canonical(name, alone)


def canonical(name: str, literal: object) -> object:
    """Numbers of a binary COPY are written in another way than those that stay texts."""
    nested = parse_literal(literal) if isinstance(literal, str) else None
    if nested is None:
        return literal
    return [canonical_element(name, element) for element in nested]


def canonical_element(name: str, element: Any) -> Any:
    if name == "boolean[]":
        return {"1": "true", "0": "false"}.get(element, element) if isinstance(element, str) else element
    number = {"double precision[]": float, "integer[]": int}.get(name)  # -0 of an integer is 0
    try:
        return element if number is None else number(element)
    except (TypeError, ValueError):
        return element


@settings(max_examples=200)
@given(st.lists(st.lists(TEXT | st.none() | st.integers(-(2**70), 2**70), max_size=4), max_size=4), st.booleans())
def test_every_text_of_a_json_array_is_an_element(arrays: list[list[str | int | None]], ascii_only: bool) -> None:
    kind = type_of(column_of("text[]"))
    documents = [json.dumps(array, ensure_ascii=ascii_only) for array in arrays]
    values = kind.parse(pa.array(documents, pa.string()).cast(pa.binary()), SOURCE).values
    assert values.type == kind.arrow
    expected = [[None if e is None else str(e).encode() for e in array] for array in arrays]
    assert values.to_pylist() == expected


NESTED = st.recursive(TEXT | st.none(), lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=8)


@settings(max_examples=300)
@given(st.lists(NESTED, max_size=4))
def test_a_literal_is_read_as_it_was_written(array: list[Any]) -> None:
    found = parse_literal(format_literal(array))
    assert found == array or depth(array) > 6


def depth(array: Any) -> int:
    return 1 + max(map(depth, array), default=0) if isinstance(array, list) else 0


@pytest.mark.parametrize(
    "text", ["", "x", "{", "{a", "{a,}", "{,a}", '{"a"b}', "{a{b}}", "{a}x", "[0:1]={1,2}", '{"a}', "{a\\b}"]
)
def test_what_is_not_a_plain_literal_is_left_to_the_server(text: str) -> None:
    assert parse_literal(text) is None


def test_json_arrays_that_are_not_utf8_are_refused() -> None:
    kind = type_of(column_of("text[]"))
    parsed = kind.parse(pa.array([b'["\xff"]', b'["a"]', None], pa.binary()), SOURCE)
    assert parsed.bad is not None
    assert parsed.bad.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("documents", "found"),
    [
        ([b"[1, 2]", None, b"[]", b"[3]"], ([1, 2, 3], [2, 0, 0, 1])),
        ([b'["a", null]', b"[1.50]"], (["a", None, "1.50"], [2, 1])),
        ([b"[10, 0]"], ([10, 0], [2])),
        ([b'["a", 1, null]'], (["a", 1, None], [3])),
        ([], ([], [])),
        ([b"[1, -0]"], None),
        ([b"[true]"], None),
        ([b"[[1]]"], None),
        ([b'[{"a": 1}]'], None),
        ([b"[1]", b"{1}"], None),
        ([b"[1]", b'["\xff"]'], None),
    ],
)
def test_arrays_of_one_dimension_are_read_at_once(
    documents: list[bytes | None], found: tuple[list[Any], list[int]] | None
) -> None:
    assert parse_flat_arrays(documents) == found


@pytest.mark.parametrize(
    ("document", "text"), [(b'"a\\"b"', 'a"b'), (b' "" ', ""), (b"5", None), (b'"', None), (b'"\xff"', None)]
)
def test_only_a_json_string_has_a_text(document: bytes, text: str | None) -> None:
    assert parse_json_string(document) == text


def test_arrays_that_are_not_utf8_are_bad_beside_those_with_a_bad_element() -> None:
    kind = type_of(column_of("date[]"))
    parsed = kind.parse(pa.array([b'["\xff"]', b'["x"]', b'["2024-02-29"]', None], pa.binary()), SOURCE)
    assert parsed.bad is not None
    assert parsed.bad.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("name", "lists", "literals"),
    [
        ("integer[]", [[1, 2], None, [], [None, 3]], ["{1,2}", None, "{}", "{NULL,3}"]),
        ("integer[]", [["1", "0x2"], None, ["3"]], ['{"1","0x2"}', None, '{"3"}']),
        ("text[]", [["a", None], None, []], ['{"a",NULL}', None, "{}"]),
        ("mood[]", [["sad"], None, []], ['{"sad"}', None, "{}"]),
    ],
)
def test_lists_are_read_like_their_json(name: str, lists: list[Any], literals: list[str | None]) -> None:
    kind = type_of(column_of(name))
    found = kind.parse(pa.array(lists), SOURCE)
    as_json = kind.parse(pa.array([None if one is None else json.dumps(one) for one in lists]), SOURCE)
    assert found.bad is None
    assert found.values.equals(as_json.values)
    texts = as_string(kind.to_text(found.values) if found.values.type == kind.arrow else found.values).to_pylist()
    assert [None if text is None else parse_literal(text) for text in texts] == [
        None if text is None else parse_literal(text) for text in literals
    ]


def test_a_list_with_a_bad_element_is_bad_and_its_neighbours_are_not() -> None:
    parsed = type_of(column_of("date[]")).parse(pa.array([["2024-02-29"], ["2024-02-29", "x"], None, []]), SOURCE)
    assert parsed.bad is not None
    assert parsed.bad.tolist() == [False, True, False, False]


@pytest.mark.parametrize("name", ["date[]", "text[]"])
def test_only_the_arrays_with_a_bad_element_are_bad(name: str) -> None:
    documents = [b'["x"]', b'["2024-02-29", "2024-02-29"]', b"[]", b'["2024-02-29", "x"]', b'["2024-02-29"]']
    bad = type_of(column_of(name)).parse(pa.array(documents), SOURCE).bad
    assert (None if bad is None else bad.tolist()) == ([True, False, False, True, False] if name == "date[]" else None)


def test_the_elements_of_an_array_of_json_are_json() -> None:
    kind = type_of(column_of("jsonb[]"))
    for documents in ([b'["a", 1, null]', b'["2"]'], [b'["a", 1, null]', b'["2"]', b"[[3]]"]):
        found = kind.parse(pa.array(documents), SOURCE).values
        assert found.to_pylist()[:2] == [[b'"a"', b"1", None], [b'"2"']]


def test_an_array_of_several_dimensions_has_the_times_that_its_elements_mean() -> None:
    kind = type_of(column_of("timestamp with time zone[]"))
    found = kind.parse(pa.array([b'[[1700000000], ["2024-02-29T12:00+02:00"]]', b"[[null]]", b"[1]"]), SOURCE)
    assert found.bad is None
    assert found.values.to_pylist() == [
        "{{2023-11-14T22:13:20Z},{2024-02-29T10:00:00Z}}",
        "{{NULL}}",
        "{1970-01-01T00:00:01Z}",
    ]
