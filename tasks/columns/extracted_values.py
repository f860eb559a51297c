"""The values that a layout reads from entries, and in which form it reads each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from tasks.columns.documents import Form, Wanted
from tasks.columns.row_layout import FilledColumn


@dataclass
class ExtractedValues:
    """The values of n entries.

    `texts[key]`: string, n, or int64 or bool, n, if all are such values and only columns of that type read the key.
    `json[key]`: binary, n, each value as JSON, or a list of strings or int64, n, if all are arrays of one dimension and
    only columns of arrays read the key. A null means that the key is absent or null.
    `documents`: binary, n, the whole entry as JSON. `unmapped`: binary, n, the keys that no column reads, as JSON.
    Both only if a column needs them.
    `faults`: entry → (field, reason), for each entry that cannot be parsed.
    """

    texts: dict[str, pa.Array] = field(default_factory=dict)
    json: dict[str, pa.Array] = field(default_factory=dict)
    documents: pa.Array | None = None
    unmapped: pa.Array | None = None
    faults: dict[int, tuple[str, str]] = field(default_factory=dict)

    def of(self, key: str, form: Form) -> pa.Array:
        """The values of a key in a form."""
        return self.texts[key] if form == "text" else self.json[key]


def form_of(column: FilledColumn) -> Form:
    """How the values of a column are read from a document."""
    if column.source.json:
        return "text"
    if column.column.base in ("json", "jsonb"):
        return "json"
    return "either" if column.column.base.startswith("_") else "text"


def wanted_values(columns: Sequence[FilledColumn]) -> tuple[Wanted, ...]:
    """What the columns read, without repeats."""
    return tuple(dict.fromkeys(Wanted(key, read_form(column)) for column in columns for key in column.source.keys))


def read_form(column: FilledColumn) -> Form:
    """How the keys of a column are read: a template joins texts, whatever the column is."""
    return form_of(column) if column.source.single_key is not None else "text"
