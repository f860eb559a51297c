"""The values of keys and paths in JSON documents, compared with what Python's own parser finds."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.columns.documents import Form, Wanted, below, document_reader, exact_text, no_text
from tests.support.small_layouts import as_read

NAMES = ("a", "b", "a.b", "né", 'q"', "a[0]")
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.sampled_from([1.5, 0.25]) | st.text('ab{["', max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        | st.lists(inner, max_size=2).map(json.dumps)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2).map(json.dumps)
    ),
    max_leaves=8,
)
# Each key with the name that is looked up first, and the path after that.
KEYS: dict[str, tuple[tuple[str | int, ...], ...]] = {
    "a": (("a",),),
    "b": (("b",),),
    "né": (("né",),),
    "a.b": (("a.b",), ("a", "b")),
    "a.b.a": (("a.b.a",), ("a", "b", "a")),
    "b.né": (("b.né",), ("b", "né")),
    "a[0]": (("a[0]",), ("a", 0)),
    "a[1].b": (("a[1].b",), ("a", 1, "b")),
    "b[0][1]": (("b[0][1]",), ("b", 0, 1)),
    '"a.b"': (("a.b",),),
    'q"': (('q"',),),
}


def follow(value: Any, path: tuple[str | int, ...]) -> Any:
    """The value at a path; strings on the way may hold JSON themselves."""
    for step in path:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                return None
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and step < len(value) else None
    return value


def expected(document: dict[str, Any], key: str) -> Any:
    """The value of a key: under exactly this name, else at the path."""
    values = [follow(document.get(str(path[0])), path[1:]) for path in KEYS[key]]
    return next((value for value in values if value is not None), None)


def same(found: Any, value: Any, form: Form) -> bool:
    """Whether a found value stands for `value`."""
    if value is None:
        return found is None
    if form == "text":
        if isinstance(value, (dict, list)):
            return isinstance(found, type(value))
        if isinstance(value, str):
            return bool(found == value)
        return found in (json.dumps(value), value) and not isinstance(found, float)
    if form == "list":
        return bool(found == json.loads(json.dumps(value), parse_float=str))
    if form == "either" and isinstance(value, (str, dict)):
        return bool(found == (value.encode() if isinstance(value, str) else {}))
    return isinstance(found, bytes) and bool(json.loads(found) == value)


WANTED = st.lists(
    st.builds(Wanted, st.sampled_from(list(KEYS)), st.sampled_from(["text", "json", "either", "list"]).map(as_read)),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(WANTED, st.lists(st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=4), min_size=1, max_size=4))
def test_any_keys_of_any_documents_have_the_values_that_python_finds(
    wanted: list[Wanted], documents: list[dict[str, Any]]
) -> None:
    reader = document_reader(tuple(wanted))
    texts = [json.dumps(document).encode() for document in documents]
    for document, text in zip(documents, texts, strict=True):
        try:
            rows = [reader.quick(text)]
            values = [column[0] for column in reader.columns(rows)]
        except msgspec.ValidationError:
            continue  # for `exact`
        for one, found in zip(wanted, values, strict=True):
            assert same(found, expected(document, one.key), one.form), one
    for document, text in zip(documents, texts, strict=True):
        values = [expected(document, one.key) for one in wanted]
        for one, found, value in zip(wanted, reader.exact(text), values, strict=True):
            assert same(found, value, one.form), one


def test_the_reader_of_the_same_values_is_made_once() -> None:
    """It takes longer than reading a document."""
    assert document_reader((Wanted("a", "text"),)) is document_reader((Wanted("a", as_read("text")),))


@pytest.mark.parametrize("form", ["text", "json", "either", "list"])
def test_many_documents_are_read_like_each_alone(form: Form) -> None:
    wanted = (Wanted("a.b", as_read(form)), Wanted("a", "text"), Wanted("c", as_read(form)))
    documents = [{"a": {"b": "x"}}, {}, {"a": None}, {"a.b": "y", "c": "z"}, {"a": {"b": None}}, {"a": {"b": "t"}}]
    reader = document_reader(wanted)
    rows = [reader.quick(json.dumps(document).encode()) for document in documents]
    together = reader.columns([*rows, reader.empty])
    alone = [reader.columns([row]) for row in rows]
    assert together == [[one[n][0] for one in alone] + [None] for n in range(3)]
    spelled = {"text": "x", "json": b'"x"', "either": b"x", "list": "x"}[form]
    assert together[0][0] == spelled
    assert [value is None for value in together[0]] == [False, True, True, False, True, False, True]
    assert [value is None for value in together[2]] == [True, True, True, False, True, True, True]


def test_a_key_with_exactly_the_name_comes_before_the_path() -> None:
    reader = document_reader((Wanted("a.b", "text"),))
    document = b'{"a": {"b": "path"}, "a.b": "name"}'
    assert reader.columns([reader.quick(document)]) == [["name"]]
    assert reader.exact(document) == ["name"]
    document = b'{"a": {"b": "path"}, "a.b": null}'
    assert reader.columns([reader.quick(document)]) == [["path"]]
    assert reader.exact(document) == ["path"]


def test_a_key_that_no_struct_can_have_is_left_to_the_exact_reader() -> None:
    for key in ('q"', "back\\slash", "tab\t"):
        reader = document_reader((Wanted(key, "text"), Wanted("a", "text")))
        document = json.dumps({key: "v", "a": 1}).encode()
        with pytest.raises(msgspec.ValidationError, match="a key with a quote, a backslash or a control character"):
            reader.quick(document)
        assert reader.exact(document) == ["v", "1"]
        assert reader.columns([reader.empty]) == [[None], [None]]
    reader = document_reader((Wanted('"a.b"', "text"),))
    assert reader.columns([reader.quick(b'{"a.b": "v"}')]) == [["v"]]


@pytest.mark.parametrize(
    ("raw", "path", "found"),
    [
        (b'{"a": 1}', ("a",), b"1"),
        (b'{"a": null}', ("a",), None),
        (b'{"a": 1}', ("b",), None),
        (b'{"a": 1}', (0,), None),
        (b"[1, 2]", (0,), b"1"),
        (b"[1, 2]", (1,), b"2"),
        (b"[1, 2]", (2,), None),
        (b"[1, 2]", (3,), None),
        (b"[]", (0,), None),
        (b"[1, 2]", ("a",), None),
        (b"[[1, [2]]]", (0, 1, 0), b"2"),
        (b'"{\\"a\\": [5]}"', ("a", 0), b"5"),
        (b'{"a": "[1, {\\"b\\": 2}]"}', ("a", 1, "b"), b"2"),
        (b'{"a": " {\\"b\\": 2} "}', ("a", "b"), b"2"),
        (b'{"a": "5"}', ("a", "b"), None),
        (b'{"a": "5"}', ("a", 0), None),
        (b'{"a": "{"}', ("a", "b"), None),
        (b'{"a": "["}', ("a", 0), None),
        (b'{"a": "\xff"}', ("a", "b"), None),
        (b'{"a": ""}', ("a", "b"), None),
        (b'{"a": 5}', ("a", "b", "c"), None),
        (b'{"a": {"b": 1.50}}', ("a", "b"), b"1.50"),
        (b'{"a": "x"}', ("a",), b'"x"'),
        (b"5", (), b"5"),
        (b"null", (), None),
        (None, (), None),
        (None, ("a",), None),
    ],
)
def test_what_is_below_a_path(raw: bytes | None, path: tuple[str | int, ...], found: bytes | None) -> None:
    assert below(raw, path) == found


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'"x\\u00e9"', "xé"),
        (b"1.50", "1.50"),
        (b"-0", "-0"),
        (b"true", "true"),
        (b"null", None),
    ],
)
def test_the_exact_text_of_a_value(raw: bytes, text: str | None) -> None:
    assert exact_text(raw, "k") == text


def test_an_object_or_an_array_has_no_text() -> None:
    for raw, name in ((b"{}", "object"), (b"[1]", "array")):
        reason = f"Expected `str | int | float | bool | null`, got `{name}` - at `$.k`"
        assert no_text(name == "object", "k") == reason
        with pytest.raises(msgspec.ValidationError) as caught:
            exact_text(raw, "k")
        assert str(caught.value) == reason


def test_an_object_is_neither_an_array_nor_a_text() -> None:
    for key, document in (("a", b'{"a": {}}'), ("a[0]", b'{"a": [{}]}')):
        reader = document_reader((Wanted(key, "either"),))
        assert reader.exact(document) == [{}]
        assert reader.columns([reader.quick(document)]) == [[{}]]


def test_nested_values_below_a_cut_have_empty_containers_as_texts() -> None:
    reader = document_reader((Wanted("a[0]", "text"),))
    rows = [reader.quick(b'{"a": [%s]}' % value) for value in (b'{"b": 1}', b"[1]", b"5", b'"x"', b"null", b"true")]
    assert reader.columns(rows) == [[{}, [], "5", "x", None, "true"]]


def test_json_below_a_cut_is_the_very_text() -> None:
    reader = document_reader((Wanted("a[0]", "json"),))
    for value in (b'{"b":  1}', b"[1, 2]", b"1.50", b'"x"', b"false"):
        document = b'{"a": [%s]}' % value
        assert reader.columns([reader.quick(document)]) == [[value]]
        assert reader.exact(document) == [value]


def test_a_path_of_the_first_release_that_is_none_is_a_name() -> None:
    for key in ("a..b", "a[", ".a"):
        reader = document_reader((Wanted(key, "text"),))
        document = json.dumps({key: "v"}).encode()
        assert reader.exact(document) == ["v"]
        assert reader.columns([reader.quick(document)]) == [["v"]]


def test_one_key_in_several_forms_has_each_of_them() -> None:
    wanted = (
        Wanted("a", "text"),
        Wanted("a", "json"),
        Wanted("a", "either"),
        Wanted("a", "list"),
        Wanted("a.b", "text"),
    )
    reader = document_reader(wanted)
    (text, raw, either, listed, inner) = reader.columns([reader.quick(b'{"a": "x"}'), reader.quick(b'{"a": [1]}')])
    assert (text, raw) == (["x", []], [b'"x"', b"[1]"])
    assert (either, listed, inner) == ([b"x", b"[1]"], ["x", [1]], [None, None])


def test_a_key_in_two_forms_is_read_from_its_json_whichever_form_comes_last() -> None:
    documents = [b'{"a": "x"}', b'{"a": 1.50}', b'{"a": [1]}']
    cases: tuple[tuple[Form, list[bytes]], ...] = (
        ("json", [b'"x"', b"1.50", b"[1]"]),
        ("either", [b"x", b"1.50", b"[1]"]),
    )
    for first, values in cases:
        wanted = (Wanted("a", first), Wanted("a", "text"))
        for order in (wanted, wanted[::-1]):
            reader = document_reader(order)
            found = dict(zip(order, reader.columns([reader.quick(one) for one in documents]), strict=True))
            assert found == {wanted[0]: values, wanted[1]: ["x", "1.50", []]}
