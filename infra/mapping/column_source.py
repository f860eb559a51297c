"""The source of one column: which keys of an entry give its value, and how their text is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

# With `uuid5`, a text that is not a UUID becomes a UUIDv5 of this namespace, unless the mapping names another one. It
# must never change: the ids are in tables.
DEFAULT_NAMESPACE = uuid5(NAMESPACE_URL, "https://spillway.example/event-id")

Whole = Literal["document", "unmapped", "entry_id", "entry_time"]
TextChange = Literal["trim", "lower", "upper"]
TimeUnit = Literal["s", "ms", "us", "ns"]


@dataclass(frozen=True)
class ColumnSource:
    """The source of one column.

    `pieces`: literal text and keys, alternating, such as `("", "source_id", ".", "relation_type_id", "")`. A key is the
    name of a field or key, or a dotted path into nested values, such as `geometry.coordinates[0]`; a key that has
    exactly this name comes before the path. One piece is a constant.
    `whole`: instead of pieces: the whole document, all keys that no column reads (both as a JSON object), the entry's
    id as text, or the time in the entry's id.
    `alternatives`: the keys that are read in turn if the only key is absent or null.
    `default`: the text if all keys are absent or null. `null`: texts that mean null.
    `changes`: made to the text in this order, before all that follows.
    `unit`, `format` (of strptime), `timezone` (an IANA name): of a time.
    `namespace`: derive a UUIDv5 from a text that is not a UUID. `ulid`: the text is a ULID, and becomes the UUID with
    the same bits. `json`: the text is JSON, and the keys of other columns may be paths into it.
    """

    pieces: tuple[str, ...] = ("",)
    whole: Whole | None = None
    alternatives: tuple[str, ...] = ()
    default: str | None = None
    null: tuple[str, ...] = ()
    changes: tuple[TextChange, ...] = ()
    unit: TimeUnit | None = None
    format: str | None = None
    timezone: str | None = None
    namespace: UUID | None = None
    ulid: bool = False
    json: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are read, in order, the alternatives last."""
        return self.pieces[1::2] + self.alternatives

    @property
    def single_key(self) -> str | None:
        """The key whose value is the whole text of the column. None for a template, a constant and `whole`."""
        plain = len(self.pieces) == 3 and not self.pieces[0] and not self.pieces[2]
        return self.pieces[1] if plain and self.whole is None else None

    @property
    def constant(self) -> str | None:
        """The text of every entry. None if it depends on the entry."""
        return self.pieces[0] if len(self.pieces) == 1 and self.whole is None else None


def key_source(key: str, *alternatives: str) -> ColumnSource:
    """The source of a column that is read from a key, or from the first of some alternatives."""
    return ColumnSource(("", key, ""), alternatives=alternatives)
