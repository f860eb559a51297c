"""The text literal of a value for the server, by rules that Spillway documents. Nothing of Spillway is used."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.any_table.documents import Raw
from tests.fuzz.jsonb import Members, Refused, has_surrogates
from tests.fuzz.prediction import microseconds, parse_uuid

Text = str | None
_JSON = ("json", "jsonb")
_DAY = 86_400 * 10**6
_TIMES = ("timestamptz", "timestamp", "date")
_LIMIT = 10**18  # microseconds; docs/reference/mapping.md, under Times
_INFINITE = ("infinity", "-infinity")


def json_text(raw: Raw, base: str) -> Text:
    """The text of a value for a column of this type; None for null. Raises `Refused`."""
    if not raw.is_json:
        return _storable(raw.text)
    if base in _JSON:
        return None if raw.text == "null" else _storable(raw.text)
    if base.startswith("_") and isinstance(value := raw.value, list) and not isinstance(value, Members):
        return _storable(_array(value, base))
    text = raw.plain()
    return None if text is None else _storable(text)


def _storable(text: str) -> str:
    if "\0" in text or has_surrogates(text):
        raise Refused("NUL or not UTF-8")
    return text


def _array(value: Any, base: str) -> str:
    """The server's literal of an array in JSON."""
    if isinstance(value, Members):
        raise Refused("an object in an array")
    if isinstance(value, list):
        return "{" + ",".join(_array(one, base) for one in value) + "}"
    if value is None:
        return "NULL"
    text = str(value) if isinstance(value, str) else ("true" if value else "false")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Literals:
    """Texts for the server from texts that Spillway judges itself."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def judged(self, text: str, base: str, window: tuple[int, int] | None) -> str:
        """The text for the server. Raises `Refused`."""
        if base == "uuid":
            return str(parse_uuid(text, False))
        if base not in _TIMES:
            return text
        if text.strip().lower() in _INFINITE:
            if window is not None:
                raise Refused("infinite")
            return text
        micros = microseconds(text)
        if abs(micros) >= _LIMIT:
            raise Refused("too large a number")
        if base == "date" and micros % _DAY:
            raise Refused("not midnight")
        if window is not None and not window[0] <= micros <= window[1]:
            raise Refused("outside the window")
        return self._written(micros, base)

    def _written(self, micros: int, base: str) -> str:
        """The time as the server writes it. Raises `Refused` if its type cannot hold it."""
        days, rest = divmod(micros, _DAY)
        query = "SELECT ('1970-01-01'::timestamp + make_interval(days => %s) + make_interval(secs => %s))::text"
        if abs(days) > 2**31 - 1:
            raise Refused("beyond every type")
        try:
            row: Any = self._connection.execute(query, [days, rest / 10**6]).fetchone()
        except psycopg.errors.DataError:
            raise Refused("beyond the type") from None
        written = str(row[0])
        if base == "date":
            return written.replace(" 00:00:00", "")
        if base == "timestamp":
            return written
        return written.replace(" BC", "Z BC") if written.endswith(" BC") else f"{written}Z"
