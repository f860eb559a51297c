"""How the values of Parquet are spelled as texts, for the types of the columns that read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.columns.row_layout import RowLayout

# `plain`: the one text of a value, see docs/reference/mapping.md. `bytea`, `interval`: the same, except that bytes and
# durations are spelled as the server's input functions read them. `json`: values that are not JSON are quoted, except
# text, which is JSON itself.
Spelling = Literal["plain", "bytea", "interval", "json"]

_SPELLINGS: Mapping[str, Spelling] = {"bytea": "bytea", "interval": "interval", "json": "json", "jsonb": "json"}


@dataclass(frozen=True)
class Spellings:
    """The spelling of the values of each key; `plain` if it is not in `of_key`.

    `nan_as_null`: NaN and infinity in a list, struct or map are null, as in the first release.
    """

    of_key: Mapping[bytes, Spelling] = field(default_factory=dict)
    nan_as_null: bool = False

    def of(self, key: bytes) -> Spelling:
        """The spelling of a key."""
        return self.of_key.get(key, "plain")


PLAIN = Spellings()


def spellings_of(layout: RowLayout, nan_as_null: bool = False) -> Spellings:
    """The spellings for the columns of a layout.

    If columns of several types read a key, bytea comes first, then interval. Quotes are only for a key that nothing but
    columns of JSON read.
    """
    found: dict[bytes, set[Spelling]] = {}
    for one in (layout, *layout.routes.values()):
        for column in one.columns:
            is_whole_value = column.source.single_key is not None and not column.source.json
            spelling = _SPELLINGS.get(column.column.base.removeprefix("_"), "plain") if is_whole_value else "plain"
            for key in column.source.keys:
                found.setdefault(key.encode(), set()).add(spelling)
    chosen = {key: _chosen(some) for key, some in found.items()}
    return Spellings({key: spelling for key, spelling in chosen.items() if spelling != "plain"}, nan_as_null)


def _chosen(some: set[Spelling]) -> Spelling:
    if "bytea" in some:
        return "bytea"
    if "interval" in some:
        return "interval"
    return "json" if some == {"json"} else "plain"
