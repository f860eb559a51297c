"""Values written as TOML are read back by Python's own parser."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.mapping.toml_write import toml_name, toml_value

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.text("'\"\\\n\ta é", max_size=5)
VALUE = st.recursive(
    TEXT | st.booleans(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)


@given(TEXT, VALUE)
def test_any_value_is_read_back_as_it_was(name: str, value: Any) -> None:
    text = f"{toml_name(name)} = {toml_value(value)}"
    assert "\n" not in text
    assert tomllib.loads(text) == {name: value}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("né x", '"né x"'),
        ("", '""'),
        ('say "x"', "'say \"x\"'"),
        ("a\\b", "'a\\b'"),
        ("it's", '"it\'s"'),
        ("it's \\", '"it\'s \\U0000005c"'),
        ('"\n', '"\\U00000022\\U0000000a"'),
        (True, "true"),
        (False, "false"),
        (5, '"5"'),
        (["a", ("b",)], '["a", ["b"]]'),
        ({"a": 1, "b c": [True]}, '{ a = "1", "b c" = [true] }'),
    ],
)
def test_a_value_is_spelled_as_a_person_would(value: Any, text: str) -> None:
    assert toml_value(value) == text


@pytest.mark.parametrize(("name", "text"), [("a-B_9", "a-B_9"), ("a.b", '"a.b"'), ("", '""'), ("é", '"é"')])
def test_a_name_has_quotes_only_if_it_needs_them(name: str, text: str) -> None:
    assert toml_name(name) == text
