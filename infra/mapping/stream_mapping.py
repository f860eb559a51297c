"""How the entries of a stream become rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from infra.mapping.column_source import ColumnSource

Layout = Literal["json", "flat"]
Encoding = Literal["gzip", "zstd", "base64", "msgpack"]


@dataclass(frozen=True)
class StreamMapping:
    """One table `[streams."name"]` of `spillway.toml`.

    `name`: as it is written there, a name or a pattern; empty for the built-in mapping.
    `table`: the table that the rows go to, with or without a schema; None means `events`.
    `columns`: column → source, for the columns that the mapping names. Every other column of the table is read from the
    key with its name, or else is null or its default.
    `layout`: `json`: one field holds a document; `flat`: each field is a key; None: the fields of each entry decide.
    `document_field`: the field that holds the document. `encodings`: of that field, the outermost first.
    `each`: the path of an array in the document whose elements become one row each. Keys then begin at the element, or
    with `$.` at the document.
    `unknown`: what happens to an entry with a key that no column reads.
    `null`: texts that mean null, for every column without texts of its own.
    `route_key`, `routes`: the key whose value chooses the table, and value → table; other values go to `table`, or to
    quarantine if it is None.
    """

    name: str = ""
    table: str | None = None
    columns: Mapping[str, ColumnSource] = field(default_factory=dict)
    layout: Layout | None = None
    document_field: bytes = b"data"
    encodings: tuple[Encoding, ...] = ()
    each: str | None = None
    unknown: Literal["ignore", "refuse"] = "ignore"
    null: tuple[str, ...] = ()
    route_key: str | None = None
    routes: Mapping[str, str] = field(default_factory=dict)

    @property
    def refuses_unknown(self) -> bool:
        """Whether an entry with a key that no column reads is refused."""
        return self.unknown == "refuse"


BUILT_IN = StreamMapping()


class StreamMappings:
    """The mappings of one file, by stream name or pattern."""

    def __init__(self, mappings: Mapping[str, StreamMapping]) -> None:
        self._mappings = mappings

    def for_stream(self, stream: str) -> StreamMapping:
        """The mapping of `stream`: that of its exact name, else of the first pattern that matches, else `BUILT_IN`."""
        if stream in self._mappings:
            return self._mappings[stream]
        return next((m for pattern, m in self._mappings.items() if fnmatchcase(stream, pattern)), BUILT_IN)
