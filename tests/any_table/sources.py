"""The values that an entry has for a column, as its producer wrote them. Nothing of Spillway is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.any_table.documents import Raw, members
from tests.fuzz.jsonb import Refused, has_surrogates


@dataclass(frozen=True)
class Source:
    """The keys of a column, in the order in which they are tried, its default, and its texts that mean null."""

    keys: tuple[str, ...]
    default: str | None = None
    nulls: tuple[str, ...] | None = None


class Entry:
    """The values of an entry by key."""

    def __init__(self, values: Mapping[str, bytes | Raw]) -> None:
        self._values = values

    def value(self, source: Source, nulls: tuple[str, ...]) -> Raw | None:
        """The first value that is there and not null; else the default; else None. Raises `Refused` if any of the keys
        has bytes that are not UTF-8."""
        found = [self._values[key] for key in source.keys if key in self._values]
        values = [Raw(_utf8(one), False) if isinstance(one, bytes) else one for one in found]
        if any(has_surrogates(raw.text) for raw in values):
            raise Refused("not UTF-8")
        for raw in values:
            if not _is_null(raw, nulls):
                return raw
        return None if source.default is None else Raw(source.default, False)


def _is_null(raw: Raw, nulls: tuple[str, ...]) -> bool:
    try:
        text = raw.plain()
    except Refused:
        return False
    return text is None or text in nulls


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


def entry_of(fields: Sequence[bytes], layout: str) -> Entry:
    """The entry with these alternating names and values. The last one of a repeated field counts. Raises `Refused` if
    its document is not a JSON object."""
    by_name = dict(zip(fields[::2], fields[1::2], strict=True))
    if layout == "flat":
        return Entry({name.decode(errors="surrogateescape"): value for name, value in by_name.items()})
    document = by_name.get(b"data")
    if document is None:
        raise Refused("no document")
    return Entry(members(document))
