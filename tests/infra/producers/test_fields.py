"""Converting lines to entries: nothing in the JSON is lost."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.producers.fields import as_data, as_fields

_text = st.text(st.characters(codec="utf-8"))
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


@given(st.binary())
def test_any_line_is_kept_unchanged(line: bytes) -> None:
    assert as_data(line) == {b"data": line}


@given(st.dictionaries(_text, _json, min_size=1).filter(lambda d: set(d.values()) != {None} if _hashable(d) else True))
def test_strings_become_text_and_other_values_keep_their_json(document: dict[str, object]) -> None:
    entry = as_fields(json.dumps(document).encode())
    assert set(entry) == {key.encode() for key, value in document.items() if value is not None}
    for key, value in document.items():
        if isinstance(value, str):
            assert entry[key.encode()] == value.encode()
        elif value is not None:
            assert json.loads(entry[key.encode()]) == value


def _hashable(document: dict[str, object]) -> bool:
    return all(value is None or isinstance(value, str | int | float) for value in document.values())


@pytest.mark.parametrize("number", ["1.10", "12345678901234567890123", "1e400", "-0.0", "0.1000000000000000055"])
def test_a_number_keeps_its_digits(number: str) -> None:
    assert as_fields(b'{"n": %b}' % number.encode()) == {b"n": number.encode()}


def test_a_nested_value_keeps_its_bytes_and_a_string_loses_its_escapes() -> None:
    line = b'{"a": {"x" : 1.0, "y":"\\u00e9"}, "b":"\\u00e9\\n\\ud83d\\ude00", "c":null, "d":false}'
    assert as_fields(line) == {b"a": b'{"x" : 1.0, "y":"\\u00e9"}', b"b": "é\n😀".encode(), b"d": b"false"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1]", "expected a JSON object: .*array"),
        (b"7", "expected a JSON object"),
        (b"not json", "found invalid JSON"),
        (b'{"a":1', "found invalid JSON"),
        (b'{"a":1} x', "found invalid JSON"),
        (b'\xef\xbb\xbf{"a":1}', "found invalid JSON"),
        (b'{"a":"\xff"}', "expected UTF-8"),
        (b'{"a":"\\ud800"}', "found invalid JSON"),
        (b"{}", "expected a key"),
        (b'{"a":null}', "expected a key"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too many nested levels"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_line_that_cannot_be_split_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        as_fields(line)
