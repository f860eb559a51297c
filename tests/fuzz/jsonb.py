"""Which documents jsonb accepts and which values are equal, from PostgreSQL's documentation and without Spillway's
code.

https://www.postgresql.org/docs/current/datatype-json.html: RFC 8259, but no \\u0000, no lone surrogates, and numbers in
the range of numeric. https://www.postgresql.org/docs/current/datatype-numeric.html: up to 131072 digits before the
decimal point, up to 16383 after it; every digit is kept, and 1.0 equals 1.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NoReturn

# A server with the default stack of 2 MB accepts documents of several thousand levels. The exact number is not
# documented, so nothing is predicted between these two.
SURE_DEPTH, BEYOND_DEPTH = 250, 40_000
_DIGITS_BEFORE, _DIGITS_AFTER = 131_072, 16_383
_EXPONENT_BELOW = (2**31 - 1) // 2  # from here on numeric overflows, whatever the digits are
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


class Refused(Exception):
    """The entry cannot become a row."""


class Undecided(Exception):
    """Neither specification nor documentation decides this case: a campaign must not contain it."""


class Number(str):
    """A number as written."""


class Members(list[tuple[str, Any]]):
    """The members of an object in order, including repeated keys."""

    def last(self, key: str) -> Any:
        """The last value of `key`, as in jsonb; None if there is none."""
        return next((value for name, value in reversed(self) if name == key), None)


def parse(text: str) -> Any:
    """The value of a JSON text: `Members`, lists, texts, `Number`s, booleans and None. Raises `Refused`."""
    _check_depth(text)
    try:
        return json.loads(
            text, object_pairs_hook=Members, parse_int=Number, parse_float=Number, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        raise Refused(str(error)) from None


def _no_constant(name: str) -> NoReturn:
    raise Refused(f"{name} is no JSON")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= SURE_DEPTH:
        return
    deepest = depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > BEYOND_DEPTH or depth != 0:
        raise Refused("nested too deep, or never closed")
    if deepest > SURE_DEPTH:
        raise Undecided(f"JSON of {deepest} levels")


def has_surrogates(value: Any) -> bool:
    """Whether any text or key in a parsed value contains a lone surrogate."""
    if isinstance(value, Members):
        return any(_is_torn(key) or has_surrogates(member) for key, member in value)
    if isinstance(value, list):
        return any(map(has_surrogates, value))
    return isinstance(value, str) and _is_torn(value)


def _is_torn(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)


def stored(value: Any) -> str:
    """A parsed value as jsonb stores it, in one spelling: sorted keys, numbers with all digits. Raises `Refused`."""
    return _write(value, exact=True)


def compared(value: Any) -> str:
    """A text that is the same for two values exactly if jsonb considers them equal. Raises `Refused`."""
    return _write(value, exact=False)


def _write(value: Any, exact: bool) -> str:
    if isinstance(value, Members):
        # Check all of them: the server parses a value before it sees that the key is repeated.
        written = {}
        for key, member in value:
            written[_write_text(key)] = _write(member, exact)
        return "{" + ",".join(f"{key}:{written[key]}" for key in sorted(written)) + "}"
    if isinstance(value, list):
        items = []  # no comprehension, which would double the stack depth
        for item in value:
            items.append(_write(item, exact))
        return "[" + ",".join(items) + "]"
    if isinstance(value, Number):
        return _write_number(value, exact)
    if isinstance(value, str):
        return _write_text(value)
    return json.dumps(value)


def _write_text(text: str) -> str:
    if "\0" in text:
        raise Refused("\\u0000 cannot be converted to text")
    if _is_torn(text):
        raise Refused("a lone surrogate")
    return json.dumps(text)


def _write_number(number: Number, exact: bool) -> str:
    found = _NUMBER.fullmatch(number)
    assert found is not None, number
    sign, whole, fraction, exponent = found[1], found[2], found[3] or "", found[4] or "0"
    shift = int(exponent) if len(exponent.lstrip("+-0")) <= 10 else _EXPONENT_BELOW
    if abs(shift) >= _EXPONENT_BELOW:
        raise Refused("value overflows numeric format")
    digits = (whole + fraction).lstrip("0")
    scale = max(0, len(fraction) - shift)
    before = len(digits) - len(fraction) + shift
    if scale > _DIGITS_AFTER or (digits and before > _DIGITS_BEFORE):
        raise Refused("value overflows numeric format")
    if not digits:
        return f"{0:.{scale}f}" if exact else "0"
    value = Decimal(f"{sign}{digits}e{shift - len(fraction)}")
    if exact:
        return f"{value:.{scale}f}"
    return f"{value:f}".rstrip("0").rstrip(".") if scale else f"{value:f}"
