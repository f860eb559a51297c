"""Values of settings that are written as text: durations, lists of names, and lists of columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from pydantic_core import PydanticCustomError

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def read_duration(value: object) -> object:
    """Read `7d`, `36h`, `90m` or `30s` as a `timedelta`, and empty text as None."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    number, unit = value.strip()[:-1], value.strip()[-1]
    if not (number.isascii() and number.isdigit() and unit in _UNITS):
        raise PydanticCustomError("duration", "expected a number and a unit such as 7d, 36h, 90m or 30s")
    try:
        return timedelta(**{_UNITS[unit]: int(number)})
    except OverflowError:
        raise PydanticCustomError("duration", "expected a duration of at most 999999999d") from None


def read_age(value: object) -> object:
    """Read a duration that is not zero."""
    found = read_duration(value)
    if found == timedelta(0):
        raise PydanticCustomError("age", "expected a positive duration such as 7d, 36h, 90m or 30s")
    return found


def read_names(value: object) -> object:
    """`events*,orders` as a tuple of both names."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


COLUMN = r"\s*\"?(time|event_id|event_type|user_id)\"?"
ORDER = COLUMN + r"(\s+(ASC|DESC))?(\s+NULLS\s+(FIRST|LAST))?"


def columns_of(item: str, example: str) -> Callable[[object], object]:
    """A check for an empty text, or a comma-separated list whose items match the expression `item`."""
    pattern = re.compile(rf"({item}\s*(,{item}\s*)*)?\s*", re.IGNORECASE)

    def check(value: object) -> object:
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise PydanticCustomError("columns", f"expected columns of events such as {example}")
        return value

    return check
