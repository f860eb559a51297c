"""Reads a table of a TOML file, and collects every fault in it instead of raising at the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = 60  # characters of a value that a message quotes


class FloatText(str):
    """A float of a TOML file, as it is written there: a column of type numeric gets every digit."""

    __slots__ = ()


def parse_float(text: str) -> Any:
    """For `tomllib.loads`: a float as its text."""
    return FloatText(text.replace("_", ""))


def toml_key(name: str) -> str:
    """A name as a key of TOML, for messages: in quotes if it needs them."""
    return name if _BARE.fullmatch(name) else f'"{name}"'


def near_miss(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` was probably meant to be."""
    return next(iter(get_close_matches(name, list(known), 1, 0.65)), None)


class TomlTable:
    """A table of the file. A value that is not as expected adds a fault and counts as absent.

    `location`: its key in the file, such as `streams."orders".columns`; empty for the file itself. `faults`: those of
    the whole file; each names key, expected and found.
    """

    def __init__(self, values: Mapping[str, Any], location: str, faults: list[str]) -> None:
        self.values = values
        self.location = location
        self.faults = faults

    def place(self, key: str) -> str:
        """The full name of a key."""
        return f"{self.location}.{toml_key(key)}" if self.location else toml_key(key)

    def fault(self, key: str, expected: str) -> None:
        """Add a fault of the value of a key."""
        self.faults.append(f"{self.place(key)}: expected {expected}, found {_spelled(self.values.get(key))}")

    def conflict(self, key: str, others: Sequence[str]) -> None:
        """Add a fault of a key that cannot be combined with `others`."""
        self.faults.append(f"{self.place(key)}: cannot be combined with {', '.join(others)}")

    def refuse_unknown(self, known: Sequence[str], hint: str = "") -> None:
        """Add a fault for each key that is not in `known`, before all other faults: it may explain a missing one."""
        for key in self.values:
            if key not in known:
                near = near_miss(key, known)
                advice = f"did you mean {near}?" if near else hint or f"expected one of {', '.join(known)}"
                self.faults.insert(0, f"{self.place(key)}: unknown key, {advice}")

    def text(self, key: str, expected: str = "a text") -> str | None:
        """A text that is not empty."""
        value = self.values.get(key)
        if value is None or (_is_text(value) and value):
            return value
        self.fault(key, expected)
        return None

    def texts(self, key: str, expected: str = "a text or a list of texts") -> tuple[str, ...]:
        """A text, or a list of texts that are not empty."""
        value = self.values.get(key, [])
        values = value if isinstance(value, list) else [value]
        if all(_is_text(item) and item for item in values):
            return tuple(values)
        self.fault(key, expected)
        return ()

    def scalar(self, key: str, expected: str = "a text, number, boolean or time") -> str | None:
        """The text of a scalar value: the value of a column, as its type is written."""
        value = self.values.get(key)
        text = _scalar_text(value)
        if value is not None and text is None:
            self.fault(key, expected)
        return text

    def scalars(self, key: str, expected: str = "a text or number, or a list of these") -> tuple[str, ...]:
        """The texts of a scalar value, or of a list of these."""
        value = self.values.get(key, [])
        found = [_scalar_text(item) for item in (value if isinstance(value, list) else [value])]
        if None in found:
            self.fault(key, expected)
            return ()
        return tuple(text for text in found if text is not None)

    def choice(self, key: str, allowed: Sequence[str]) -> Any:
        """One of the `allowed` texts."""
        value = self.values.get(key)
        if value is None or (_is_text(value) and value in allowed):
            return value
        self.fault(key, f"one of {', '.join(allowed)}")
        return None

    def choices(self, key: str, allowed: Sequence[str]) -> Any:
        """Some of the `allowed` texts, each at most once, as a tuple. A single text needs no list."""
        value = self.values.get(key, [])
        values = value if isinstance(value, list) else [value]
        if all(_is_text(item) and item in allowed for item in values) and len(set(values)) == len(values):
            return tuple(values)
        self.fault(key, f"one of {', '.join(allowed)}, or a list of these without repetition")
        return ()

    def flag(self, key: str) -> bool:
        """A boolean; False if it is absent."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            self.fault(key, "true or false")
        return value is True

    def table(self, key: str) -> TomlTable:
        """A table; an empty one if it is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.fault(key, "a table")
            value = {}
        return TomlTable(value, self.place(key), self.faults)

    def tables(self, key: str) -> Mapping[str, TomlTable]:
        """The tables in a table, by name. Names are in quotes in messages, whatever they are."""
        outer = self.table(key)
        found = {}
        for name, value in outer.values.items():
            location = f'{outer.location}."{name}"'
            if isinstance(value, dict):
                found[name] = TomlTable(value, location, self.faults)
            else:
                self.faults.append(f"{location}: expected a table, found {_spelled(value)}")
        return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not isinstance(value, FloatText)


def _scalar_text(value: object) -> str | None:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return value.isoformat() if isinstance(value, datetime | date | time) else None


def _spelled(value: object) -> str:
    if isinstance(value, FloatText):
        return str(value)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _QUOTED else text[: _QUOTED - 1] + "…"
