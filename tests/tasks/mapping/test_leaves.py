"""The keys of documents that become columns, and the array whose elements become rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from infra.mapping.paths import Path
from tasks.mapping.leaves import Leaf, elements_of, find_each, find_leaves, words_of
from tasks.mapping.sample_documents import Digits


def read(*texts: str) -> list[Mapping[str, Any]]:
    """Documents as a sample has them."""
    return [json.loads(text, parse_int=Digits, parse_float=Digits) for text in texts]


def paths(*texts: str) -> list[Path]:
    return [leaf.path for leaf in find_leaves(read(*texts))]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("createdAt", "created_at"),
        ("CreatedAt", "created_at"),
        ("HTTPStatus", "httpstatus"),
        ("userID2Name", "user_id2_name"),
        (" a-b  c! ", "a_b_c"),
        ("_id", "id"),
        ("Größe", "größe"),
        ("%", ""),
    ],
)
def test_the_words_of_a_name_are_in_lower_case_with_underscores(name: str, words: str) -> None:
    assert words_of(name) == words


def test_a_leaf_is_called_like_the_last_name_of_its_path() -> None:
    leaf = Leaf(("Place", "XyPoint", 1), [None, 0, "", False, None])
    assert (leaf.key, leaf.words, leaf.present) == ("Place.XyPoint[1]", "xy_point", 3)
    assert Leaf((), []).key == ""
    assert Leaf(("a.b", "c"), [None]).present == 0


def test_an_object_with_mostly_the_same_members_is_taken_apart() -> None:
    assert paths('{"a": {"b": 1, "c": {"d": 2}}}') == [("a", "b"), ("a", "c", "d")]
    assert paths('{"a": {"b": 1, "c": 2}}', '{"a": {"b": 1}}', "{}", '{"a": null}') == [("a", "b"), ("a", "c")]
    # Half of the members are there: 2 of 4.
    assert paths('{"a": {"b": 1}}', '{"a": {"c": 1}}') == [("a", "b"), ("a", "c")]
    assert paths('{"a": {"b": 1, "c": 1}}', '{"a": {"b": 1, "d": 1}}', '{"a": {"c": 1, "d": 1}}') == [
        ("a", "b"), ("a", "c"), ("a", "d"),
    ]  # fmt: skip
    # A third or a quarter of them is: names are data.
    assert paths(*(f'{{"a": {{"{name}": 1}}}}' for name in "bcde")) == [("a",)]
    assert paths('{"a": {"b": 1}}', '{"a": {"c": 1}}', '{"a": {"d": 1}}') == [("a",)]
    for other in ("{}", "5", "[]", '"x"', "[[1]]"):
        assert paths('{"a": {"b": 1}}', f'{{"a": {other}}}') == [("a",)]
    assert paths("{}") == paths() == []


def test_the_values_of_a_member_are_null_where_its_object_is_absent() -> None:
    found = find_leaves(read('{"a": {"b": 1}, "c": 1}', "{}", '{"a": null, "c": 2}', '{"a": {"b": "x", "d": true}}'))
    assert {leaf.key: list(leaf.values) for leaf in found} == {
        "a.b": ["1", None, None, "x"],
        "a.d": [None, None, None, True],
        "c": ["1", None, "2", None],
    }


def test_a_path_has_at_most_four_names() -> None:
    assert paths('{"a": {"b": {"c": {"d": {"e": 1}}}}}') == [("a", "b", "c", "d")]
    assert paths('{"a": {"b": {"c": [1, 2]}}}') == [("a", "b", "c", 0), ("a", "b", "c", 1)]
    assert paths('{"a": {"b": {"c": {"d": [1, 2]}}}}') == [("a", "b", "c", "d")]


@pytest.mark.parametrize(
    ("lists", "apart"),
    [
        (["[1]"], False),
        (["[1, 2]"], True),
        (["[1, 2.5, -3e5, 4]", "[1, 2, 3, 4]", "null"], True),
        (["[1, 2, 3, 4, 5]"], False),
        (["[1, 2]", "[1, 2, 3]"], False),
        (["[1, 2, 3]", "[1, 2]"], False),
        (["[1, 2]", "[]"], False),
        (["[1, 2]", "5"], False),
        (["[1, 2]", '"12"'], False),
        (["[1, 2]", '["1", 2]'], False),
        (["[1, null]"], False),
        (["[true, 2]"], False),
        (["null"], False),
    ],
)
def test_few_numbers_in_an_array_are_columns_of_their_own(lists: list[str], apart: bool) -> None:
    found = find_leaves(read(*(f'{{"a": {one}}}' for one in lists)))
    size = len(json.loads(lists[0]) or [])
    assert [leaf.path for leaf in found] == ([("a", index) for index in range(size)] if apart else [("a",)])
    if apart:
        rows = [json.loads(one, parse_int=str, parse_float=str) or [None] * size for one in lists]
        assert [list(leaf.values) for leaf in found] == [[row[index] for row in rows] for index in range(size)]


@pytest.mark.parametrize(("count", "apart"), [(99, True), (100, True), (101, False), (200, False)])
def test_more_than_a_hundred_keys_are_not_taken_apart(count: int, apart: bool) -> None:
    document = json.dumps({"a": {f"k{n}": n for n in range(count - 1)}, "b": 1})
    assert len(paths(document)) == (count if apart else 2)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "", "\ufffd", "x\ufffdy"])
def test_a_name_that_no_key_can_spell_is_left_out(name: str) -> None:
    assert paths(json.dumps({name: 1, "b": 2, "c": {name: {"d": 1}, "e": 1}})) == [("b",), ("c", "e")]
    assert find_each(read(json.dumps({name: [{"time": 1}]})), has_time) is None
    assert find_each(read(json.dumps({name: [{"time": 1}], "rows": [{"time": 1}]})), has_time) == "rows"


def has_time(documents: Sequence[Mapping[str, Any]]) -> bool:
    return any("time" in document for document in documents)


@pytest.mark.parametrize(
    ("texts", "each"),
    [
        (['{"rows": [{"time": 1}]}'], "rows"),
        (['{"a b": {"c.d": [{"time": 1}]}}'], 'a b."c.d"'),
        (['{"n": 1, "x": [{"n": 1}], "y": [], "rows": [{"time": 1}, {}]}', '{"rows": [], "x": []}'], "rows"),
        (['{"time": 1, "rows": [{"time": 1}]}'], None),
        (['{"time": {}, "rows": [{"time": 1}]}'], "rows"),
        (['{"time": [], "rows": [{"time": 1}]}'], "rows"),
        (['{"rows": [{"n": 1}]}'], None),
        (['{"rows": [{"time": 1}, 5]}'], None),
        (['{"rows": [[{"time": 1}]]}'], None),
        (['{"rows": []}'], None),
        (['{"rows": {"time": 1}}'], None),
        (['{"rows": [{"time": 1}]}', "{}"], None),
        (['{"rows": [{"time": 1}]}', '{"rows": null}'], None),
        (['{"rows": [{"time": 1}]}', '{"rows": {}}'], None),
        (['{"a": {"rows": [{"time": 1}]}}'], "a.rows"),
        (['{"a": {"rows": [{"time": 1}]}, "later": [{"time": 2}]}'], "later"),
        (['{"a": {"rows": [{"time": 1}]}}', '{"a": {}}'], None),
        (['{"a": {"rows": [{"time": 1}]}}', '{"a": [{"time": 1}]}'], None),
        (['{"a": {"rows": [{"time": 1}]}, "b": {"rows": [{"time": 1}]}}'], "a.rows"),
        (['{"a": {"b": {"rows": [{"time": 1}]}}}'], None),
        ([], None),
    ],
)
def test_rows_are_the_elements_of_the_array_that_every_document_has(texts: list[str], each: str | None) -> None:
    assert find_each(read(*texts), has_time) == each


def test_the_elements_of_all_documents_are_rows_if_they_are_objects() -> None:
    documents = read('{"a": {"b": [{"n": 1}, 5, null, [], {}]}}', '{"a": {"b": [{"n": 2}]}}', '{"a": 5}', "{}")
    documents += read('{"a": {"b": null}}', '{"a": [1]}')
    assert elements_of(documents, "a.b") == [{"n": "1"}, {}, {"n": "2"}]
    assert elements_of(read('{"a": [{"n": 1}]}'), "a") == [{"n": "1"}]
