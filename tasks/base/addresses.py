"""Addresses in a stream: an entry id `ms-seq` is the number `ms * 2**64 + seq`, a range of them half-open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from infra.epoch import to_millis
from infra.errors.exceptions import WrongUse

_SEQ_BITS = 64
_SEQ_MASK = (1 << _SEQ_BITS) - 1
_ID = re.compile(r"([0-9]{9,20})(?:-([0-9]{1,20}))?")  # shorter ones may be dates: 20240102, 2024-01


def parse_id(text: bytes | str) -> int:
    """The number of an id `ms-seq`."""
    ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return (int(ms) << _SEQ_BITS) | int(seq or 0)


def id_text(number: int) -> str:
    """The id `ms-seq` of a number."""
    return f"{number >> _SEQ_BITS}-{number & _SEQ_MASK}"


@dataclass(frozen=True)
class IdRange:
    """The ids from `start` on and before `stop`."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{id_text(self.start)}..{id_text(self.stop - 1)}"


def parse_until(text: str, name: str = "until") -> int:
    """The number of the last id that `text` admits: an id `ms-seq`, a number of ms, or an ISO 8601 time.

    Raises `WrongUse` for anything else, naming it `name`.
    """
    return _parse(text, name, _SEQ_MASK)


def parse_from(text: str, name: str = "from") -> int:
    """The number of the first id that `text` admits; otherwise like `parse_until`."""
    return _parse(text, name, 0)


def _parse(text: str, name: str, seq_unless_given: int) -> int:
    if found := _ID.fullmatch(text):
        ms, seq = int(found[1]), seq_unless_given if found[2] is None else int(found[2])
        if max(ms, seq) > _SEQ_MASK:
            raise WrongUse(f"{name}: {text!r} is no entry id: ms and seq are below 2^64")
        return (ms << _SEQ_BITS) | seq
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(f"{name}: expected an entry id (ms-seq) or an ISO 8601 time, found {text!r}") from None
    if moment.tzinfo is None:
        raise WrongUse(f"{name}: {text!r} has no offset; add Z or +hh:mm")
    ms = to_millis(moment)
    if ms < 0:
        raise WrongUse(f"{name}: expected a time after 1970, where entry ids begin, found {text!r}")
    return (ms << _SEQ_BITS) | seq_unless_given
