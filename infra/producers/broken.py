"""Defects for generated entries. An entry with any of them cannot become a row of `events`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

Entry = dict[bytes, bytes]


def _put(field: bytes, value: bytes, entry: Entry) -> None:
    entry[field] = value


def _cut(field: bytes, entry: Entry) -> None:
    entry[field] = entry[field][:-1]


def _without(field: bytes, entry: Entry) -> None:
    del entry[field]


def _property(member: bytes, entry: Entry) -> None:
    entry[b"properties"] = entry[b"properties"].removesuffix(b"}") + b"," + member + b"}"


DEFECTS: dict[str, Callable[[Entry], None]] = {
    "uuid is text": partial(_put, b"event_id", b"not-a-uuid"),
    "uuid is a digit short": partial(_cut, b"event_id"),
    "uuid is empty": partial(_put, b"event_id", b""),
    "time is text": partial(_put, b"time", b"half past nine"),
    "time is not a valid date": partial(_put, b"time", b"2025-02-30T12:00:00.000Z"),
    "time is empty": partial(_put, b"time", b""),
    "no event_id": partial(_without, b"event_id"),
    "no event_type": partial(_without, b"event_type"),
    "no user_id": partial(_without, b"user_id"),
    "no time": partial(_without, b"time"),
    "properties are cut off": partial(_cut, b"properties"),
    "properties hold NaN": partial(_property, b'"ratio":NaN'),
    # Valid JSON that jsonb refuses: https://www.postgresql.org/docs/current/datatype-json.html
    "properties hold \\u0000": partial(_property, b'"note":"a\\u0000b"'),
    "properties hold half a surrogate pair": partial(_property, b'"note":"\\ud83d"'),
    "user_id holds a NUL": partial(_put, b"user_id", b"user\x00"),
    "event_type is not UTF-8": partial(_put, b"event_type", b"caf\xe9.view"),
}
_DEFECTS = tuple(DEFECTS.values())


def damaged(entry: Entry, number: int) -> Entry:
    """A copy of `entry` with one of the `DEFECTS`, chosen by `number` modulo their count."""
    copy = dict(entry)
    _DEFECTS[number % len(_DEFECTS)](copy)
    return copy
