"""Values of settings: those written as text (durations, names, columns), and defaults that depend on the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic_core import PydanticCustomError

LogFormat = Literal["text", "json"]

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


def read_listen(text: str) -> tuple[str, int]:
    """`[ADDR:]PORT` as an address, 127.0.0.1 by default, and a port. `:9464` is every address. Raises `ValueError`."""
    address, colon, port = text.strip().rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("expected [ADDR:]PORT such as 9464, 10.0.0.5:9464 or :9464 for every address")
    return (address.strip("[]") or "0.0.0.0") if colon else "127.0.0.1", int(port)  # noqa: S104


def check_listen(text: str) -> str:
    """Refuse what `read_listen` refuses. Empty means nowhere."""
    try:
        if text:
            read_listen(text)
    except ValueError as error:
        raise PydanticCustomError("listen", "{fault}", {"fault": str(error)}) from None
    return text


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


def default_state_dir() -> Path:
    """The data folder of local servers without Docker. Not below /root: root's servers run as other users."""
    if os.geteuid() == 0:
        return Path("/var/lib/spillway")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "spillway"


def default_parallel_loads() -> int:
    """One for each core of this machine, at most four; at least two, so that the server never waits for the client."""
    return min(4, max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
