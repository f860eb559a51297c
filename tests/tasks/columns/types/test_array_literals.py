"""Array literals: which are read here, and how arrays are written."""

from __future__ import annotations

import pytest

from tasks.columns.types.array_literals import Nested, format_literal, parse_literal

LONG = [str(number) for number in range(200)]


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("{}", []),
        (" { }\n", []),
        ("{{},{1},{}}", [[], ["1"], []]),
        ("{{ },{ 1 },2}", [[], ["1"], "2"]),
        ("{~,|, é ,~ }", ["~", "|", "é", "~"]),
        ('{"}","{",",","~"}', ["}", "{", ",", "~"]),
        ('{a b,NULL,null,"NULL","a\\"b\\\\"}', ["a b", None, None, "NULL", 'a"b\\']),
        ("{{{{{{1}}}}}}", [[[[[["1"]]]]]]),
        (f"{{{','.join(LONG)}}}", LONG),
        (f"{{{' , '.join(LONG)} }}  ", LONG),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_array_literal_is_read_as_nested_lists(text: str, elements: Nested) -> None:
    assert parse_literal(text) == elements


OTHERS = ["", "1", "[1]", "{", "{1", "{1,", "{,}", "{1,}", "{}}", "{}1", "{1}{2}", "{1}~", "{{1}"]
OTHERS += ['{"a"~', '{{"a"~,1}', '{"a"!1}', '{"a""b"}', '{"a" b}', '{"a}', '{a"b"}', "{a\\b}", "{{1}2}"]
OTHERS += ["{{{{{{{1}}}}}}}", "[1:1]={1}", "{" + "1," * 200, "{" + "1," * 200 + " ", "{" + "1," * 200 + "1", "{" * 300]


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text[:30])
def test_what_the_server_must_read_is_no_literal(text: str) -> None:
    """Such as more than six dimensions, which it refuses."""
    assert parse_literal(text) is None


def test_an_element_is_in_quotes_only_if_it_needs_them() -> None:
    plain = ["a", "Z", "x", "nul", "nulls", "1.5", "-1", "+1e-5", "12:30", "_"]
    quoted = ["", " ", "a b", "NULL", "null", "é", "{", "}", ",", "a,b", "~"]
    assert format_literal([*plain, 5]) == "{" + ",".join(plain) + ",5}"
    assert format_literal(quoted) == "{" + ",".join(f'"{text}"' for text in quoted) + "}"
    assert format_literal(['a"b', "a\\b"]) == '{"a\\"b","a\\\\b"}'
    assert format_literal([None, [], [["x"], [None]]]) == "{NULL,{},{{x},{NULL}}}"
    for elements in (plain, quoted, ['a"b\\'], [None, [], [["x"], [None]]]):
        assert parse_literal(format_literal(elements)) == elements
