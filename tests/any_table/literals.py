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
    if base.startswith("_") and (array := _json_array(raw)) is not None:
        if base[1:] in _JSON:
            return _storable(_literal([None if one == "null" else one for one in array.elements()]))
        return _storable(_literal(_texts(array.value)))
    if not raw.is_json:
        return _storable(raw.text)
    if base in _JSON:
        return None if raw.text == "null" else _storable(raw.text)
    text = raw.plain()
    return None if text is None else _storable(text)


def _storable(text: str) -> str:
    if "\0" in text or has_surrogates(text):
        raise Refused("NUL or not UTF-8")
    return text


def _json_array(raw: Raw) -> Raw | None:
    """The value as an array in JSON: also of a text that begins like one. None if it is not one."""
    if not raw.text.lstrip().startswith("["):
        return None
    array = Raw(raw.text.strip(" \t\r\n"), True)
    try:
        return array if isinstance(array.value, list) else None
    except Refused:
        return None


def _texts(value: Any) -> Any:
    """The elements of an array in JSON as texts."""
    if isinstance(value, Members):
        raise Refused("an object in an array")
    if isinstance(value, list):
        return [_texts(one) for one in value]
    if value is None or isinstance(value, str):
        return value
    return "true" if value else "false"


def _literal(value: Any) -> str:
    """The server's literal of an array of texts."""
    if isinstance(value, list):
        return "{" + ",".join(_literal(one) for one in value) + "}"
    if value is None:
        return "NULL"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


class Literals:
    """Texts for the server from texts that Spillway judges itself."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def judged(self, text: str, base: str, window: tuple[int, int] | None) -> str:
        """The text for the server. Raises `Refused`."""
        if base.startswith("_") and base[1:] in (*_TIMES, "uuid"):
            return _literal(self._judged_elements(self._elements(text), base[1:]))
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

    def _elements(self, literal: str) -> Any:
        """The elements of an array's literal, read by the server. Raises `Refused`."""
        try:
            row: Any = self._connection.execute("SELECT %s::text[]", [literal]).fetchone()
        except psycopg.errors.DataError:
            raise Refused("not an array") from None
        return row[0]

    def _judged_elements(self, value: Any, base: str) -> Any:
        if isinstance(value, list):
            return [self._judged_elements(one, base) for one in value]
        return None if value is None else self.judged(value, base, None)

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
