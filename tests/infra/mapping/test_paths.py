"""Keys, paths and templates: what each is read as, and that what is written is read back."""

from __future__ import annotations

from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping.paths import (
    InvalidKey,
    Path,
    field_name,
    first_name,
    literal_key,
    parse_path,
    parse_template,
    path_text,
    template_text,
)

NAME = st.text(st.characters(exclude_characters='"\\', exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
ODD_NAME = st.text(".[]{}:!0a ", min_size=1, max_size=6)
PATH = st.tuples(NAME | ODD_NAME, st.lists(NAME | ODD_NAME | st.integers(0, 10**9 - 1), max_size=4)).map(
    lambda parts: (parts[0], *parts[1])
)


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("name", ("name",)),
        ("actor.login", ("actor", "login")),
        ("geometry.coordinates[0]", ("geometry", "coordinates", 0)),
        ("a[0][12].b", ("a", 0, 12, "b")),
        ('"a.b".c', ("a.b", "c")),
        ('a."b[0]"[1]', ("a", "b[0]", 1)),
        ('"{x}"', ("{x}",)),
        ("@timestamp", ("@timestamp",)),
        ("$id", ("$id",)),
        ("dc:title", ("dc:title",)),
        ("first name", ("first name",)),
        ("naïve.ключ", ("naïve", "ключ")),
        ("-", ("-",)),
        ("0", ("0",)),
        ("a.0", ("a", "0")),
    ],
)
def test_a_key_is_a_name_or_a_path(key: str, path: Path) -> None:
    assert parse_path(key) == path


INVALID = ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[-1]", "a[0", "a]", "[0]", "a[0]b", '"a', 'a"b"', '""']
INVALID += ['a.""', '"a"b', "a\\b", '"a\\"', "a\nb", '"a\x00"', "a[1234567890]", "a[٣]", 'a."b".']


@pytest.mark.parametrize("key", INVALID)
def test_what_is_neither_is_refused(key: str) -> None:
    with pytest.raises(InvalidKey, match="expected a key such as name"):
        parse_path(key)


@given(PATH)
def test_every_path_has_a_key_that_means_it(path: Path) -> None:
    assert parse_path(path_text(path)) == path


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", ""])
def test_a_name_that_no_key_can_spell_is_refused(name: str) -> None:
    with pytest.raises(InvalidKey):
        path_text(("a", name))


@given(NAME | ODD_NAME)
def test_a_name_of_the_first_release_stays_one_name_or_a_valid_path(name: str) -> None:
    """A name with a dot is a path too: whoever reads it looks for the name first."""
    key = literal_key(name)
    assert key == name or parse_path(key) == (name,)
    parse_path(key)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a", ("", "a", "")),
        ("a.b", ("", "a.b", "")),
        ("{a}", ("", "a", "")),
        ("{a}{b}", ("", "a", "", "b", "")),
        ("x-{a.b[0]}.{c}!", ("x-", "a.b[0]", ".", "c", "!")),
        ("{{{a}}}", ("{", "a", "}")),
        ("é{{}}{a}", ("é{}", "a", "")),
        ('{"a}:b".c}', ("", '"a}:b".c', "")),
        ("{a b}", ("", "a b", "")),
        ("{a}" + "-" * 300, ("", "a", "-" * 300)),
    ],
)
def test_a_template_is_literal_text_and_keys(text: str, pieces: tuple[str, ...]) -> None:
    assert parse_template(text) == pieces


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a", "a}", "{{a}}", "{a:>9}", "{A!r}", "{a{b}}", '{"a}', "{{}}"])
def test_an_invalid_template_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey, match="expected a key, or keys in braces"):
        parse_template(text)


LITERAL = st.text("ab{}.:! é", max_size=4)


@given(st.lists(st.tuples(PATH, LITERAL), min_size=1, max_size=3), LITERAL)
def test_every_template_is_read_as_it_is_written(parts: list[tuple[Path, str]], start: str) -> None:
    pieces = [start]
    for path, text in parts:
        pieces += [path_text(path), text]
    assert parse_template(template_text(tuple(pieces))) == tuple(pieces)


@given(st.lists(st.tuples(st.text("ab.é ", min_size=1, max_size=4), LITERAL), min_size=1, max_size=3), LITERAL)
def test_a_template_is_read_as_python_reads_it(parts: list[tuple[str, str]], start: str) -> None:
    pieces = [start]
    for name, text in parts:
        pieces += [name, text]
    text = template_text(tuple(pieces))
    if "{" not in text:
        return
    found = list(Formatter().parse(text))
    texts = "".join(literal for literal, *_ in found)
    assert [name for _, name, *_ in found if name is not None] == list(parse_template(text)[1::2])
    assert texts == "".join(parse_template(text)[::2])


@pytest.mark.parametrize(
    ("key", "first", "field"),
    [
        ("a", "a", "a"),
        ("a.b[0]", "a", "a.b[0]"),
        ("a[0][1]", "a", "a[0][1]"),
        ('"a.b"', "a.b", "a.b"),
        ('"a"', "a", "a"),
        ('"a.b".c', "a.b", '"a.b".c'),
        ('"a"."b"', "a", '"a"."b"'),
        ('a."b"', "a", 'a."b"'),
        ('"', '"', '"'),
        ('""', '""', '""'),
        ("a..b", "a..b", "a..b"),
        ('x"', 'x"', 'x"'),
        ("", "", ""),
    ],
)
def test_the_first_name_of_a_key_and_the_field_that_it_means(key: str, first: str, field: str) -> None:
    assert (first_name(key), field_name(key)) == (first, field)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (("", "a.b", ""), "a.b"),
        (("", '"a}"', ""), '{"a}"}'),
        (("", '"{"', ""), '{"{"}'),
        (("x", "a", ""), "x{a}"),
        (("", "a", "y"), "{a}y"),
        (("", "a", "", "b", ""), "{a}{b}"),
        (("{", "a", "}"), "{{{a}}}"),
    ],
)
def test_a_template_is_written_with_braces_only_if_it_needs_them(pieces: tuple[str, ...], text: str) -> None:
    assert template_text(pieces) == text


def test_a_name_in_quotes_is_the_field_without_them() -> None:
    for name in ("a", "ab", "a.b", "a.bc", "a." * 300):
        assert field_name(f'"{name}"') == name
