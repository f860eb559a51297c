"""Positions in a stream: the entry id `ms-seq` as the number `ms * 2**64 + seq` and half-open id ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from infra.epoch import to_millis
from infra.errors.exceptions import WrongUse

_SEQ_BITS = 64
_SEQ_MASK = (1 << _SEQ_BITS) - 1
_ID = re.compile(r"([0-9]{9,20})(?:-([0-9]{1,20}))?")  # fewer digits may be a date: 20240102, 2024-01
_NO_END = 1 << 128  # no id is greater


def parse_id(text: bytes | str) -> int:
    """The number of an entry id. `ms` alone means `ms-0`. Raises `ValueError` for anything else."""
    ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return (int(ms) << _SEQ_BITS) | int(seq or 0)


def id_text(number: int) -> str:
    """The entry id, `ms-seq`, of a number."""
    return f"{number >> _SEQ_BITS}-{number & _SEQ_MASK}"


@dataclass(frozen=True)
class IdRange:
    """The ids from `start` to before `stop`, as numbers."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{id_text(self.start)}..{id_text(self.stop - 1)}"


def parse_until(text: str, name: str = "until") -> int:
    """The last id that `text` includes: an entry id, a number of milliseconds, or an ISO 8601 time with an offset.

    Raises `WrongUse` for anything else. `name`: the parameter that the message names.
    """
    return _parse(text, name, _SEQ_MASK)


def parse_since(text: str, name: str = "since") -> int:
    """The first id that `text` includes; otherwise as `parse_until`."""
    return _parse(text, name, 0)


def parse_range(since: str | None, until: str | None) -> IdRange:
    """The ids from `since` to `until`, both in a form that `parse_until` accepts; None leaves that end open."""
    return IdRange(parse_since(since) if since else 0, parse_until(until) + 1 if until else _NO_END)


def _parse(text: str, name: str, default_seq: int) -> int:
    if found := _ID.fullmatch(text):
        ms, seq = int(found[1]), default_seq if found[2] is None else int(found[2])
        if max(ms, seq) > _SEQ_MASK:
            raise WrongUse(f"{name}: expected an entry id (ms-seq) with both parts below 2^64, found {text!r}")
        return (ms << _SEQ_BITS) | seq
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"{name}: expected an entry id (ms-seq) or an ISO 8601 time, found {text!r}") from None
    if moment.tzinfo is None:
        raise WrongUse(f"{name}: expected a time with an offset, found {text!r}; add Z or +hh:mm")
    ms = to_millis(moment)
    if ms < 0:
        raise WrongUse(f"{name}: expected a time in 1970 or later, as in entry ids, found {text!r}")
    return (ms << _SEQ_BITS) | default_seq
