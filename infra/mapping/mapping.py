"""How the entries of a stream become rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from infra.mapping.sources import ColumnSource


@dataclass(frozen=True)
class Mapping:
    """How the entries of one stream become rows.

    `properties`: a key, or None for the whole document. `field`: the field that holds the document of a JSON layout.
    `uuid5`: derive an id from an event_id that is not a UUID.
    `extra_columns`: the user's own columns in an archive. Each is read from the field of the same name, or is null.
    """

    layout: Literal["json", "flat"]
    time: ColumnSource
    event_id: ColumnSource
    event_type: ColumnSource
    user_id: ColumnSource
    properties: str | None
    field: bytes = b"data"
    uuid5: bool = False
    extra_columns: tuple[str, ...] = ()
    name: str = ""  # the table in spillway.toml; empty for a built-in layout

    @property
    def sources(self) -> dict[str, ColumnSource]:
        """Column name → source, of the columns that every row must have."""
        return {
            "time": self.time,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "user_id": self.user_id,
        }


def _key(name: str, fallback: str | None = None) -> ColumnSource:
    return ColumnSource(("", name, ""), fallback=fallback)


FLAT = Mapping(
    layout="flat",
    time=_key("time", fallback="timestamp"),
    event_id=_key("event_id"),
    event_type=_key("event_type"),
    user_id=_key("user_id"),
    properties="properties",
)
JSON = replace(FLAT, layout="json")


class Mappings:
    """The mappings of one file, by stream name or pattern."""

    def __init__(self, mappings: dict[str, Mapping]) -> None:
        self._mappings = mappings

    def for_stream(self, stream: str) -> Mapping | None:
        """The mapping of `stream`: that of its exact name, else of the first pattern that matches, else None."""
        if stream in self._mappings:
            return self._mappings[stream]
        return next((m for pattern, m in self._mappings.items() if fnmatchcase(stream, pattern)), None)
