"""Addresses in a stream: an entry id `ms-seq` is the number `ms * 2**64 + seq`, a range of them half-open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from infra.errors import Terminal

_SEQ_BITS = 64
_SEQ_MASK = (1 << _SEQ_BITS) - 1


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


def parse_until(text: str) -> int:
    """The number of the last id that `text` admits: an id `ms-seq`, a number of ms, or an ISO 8601 time.

    Raises `Terminal` for anything else.
    """
    head, dash, seq = text.partition("-")
    if head.isdigit() and len(head) > 8 and (not dash or seq.isdigit()):
        return parse_id(text) if dash else (int(head) << _SEQ_BITS) | _SEQ_MASK
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Terminal(f"until: expected an entry id (ms-seq) or an ISO 8601 time, found {text!r}") from None
    if moment.tzinfo is None:
        raise Terminal(f"until: {text!r} has no offset; add Z or +hh:mm")
    return (int(moment.timestamp() * 1000) << _SEQ_BITS) | _SEQ_MASK
