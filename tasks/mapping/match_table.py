"""The keys of a sample that fit the columns of a table which exists already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.tables.table import Table, TableColumn
from tasks.mapping.infer_types import InferredType, infer_type
from tasks.mapping.leaves import Leaf, words_of
from tasks.mapping.propose_table import choose_time, column_names

_NUMBERS = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric"})
_TIMES = frozenset({"timestamptz", "timestamp", "date"})
_TEXTS = frozenset({"text", "varchar", "bpchar"})
_JSON = frozenset({"json", "jsonb"})
# The inferred type → the types of columns that take its values too.
_ACCEPTING = {
    "int8": _NUMBERS | _TEXTS,
    "float8": frozenset({"float4", "float8", "numeric"}) | _TEXTS,
    "numeric": frozenset({"float4", "float8", "numeric"}) | _TEXTS,
    "timestamptz": _TIMES | _TEXTS,
    "date": _TIMES | _TEXTS,
    "uuid": frozenset({"uuid"}) | _TEXTS,
    "bool": frozenset({"bool"}) | _TEXTS,
    "jsonb": _JSON,
}
# Names of columns for which other words are usual.
_SYNONYMS = {
    "event_id": ("id", "uuid", "guid"),
    "event_type": ("type", "event", "kind", "action", "topic", "name"),
    "user_id": ("user", "uid", "customer", "customer_id", "account", "account_id", "subject", "device", "sensor"),
    "lon": ("longitude", "lng"),
    "lng": ("longitude", "lon"),
    "longitude": ("lon", "lng"),
    "lat": ("latitude",),
    "latitude": ("lat",),
    "magnitude": ("mag",),
    "mag": ("magnitude",),
}
# Columns of type json or jsonb that get all keys that no other column has.
_REST = frozenset({"properties", "payload", "rest", "extra", "attributes", "data", "details", "raw", "other"})


@dataclass(frozen=True)
class Match:
    """A column, the key that fills it (None for the entry or the unmapped keys), and the options of the column."""

    column: TableColumn
    leaf: Leaf | None
    type: InferredType
    options: dict[str, Any] = field(default_factory=dict)


def match_table(
    table: Table, leaves: Sequence[Leaf], layout: str, stream: bool
) -> tuple[list[Match], list[TableColumn]]:
    """The columns of `table` with the keys that fill them, and the columns for which nothing was found."""
    types = [infer_type(leaf, layout) for leaf in leaves]
    unused = dict(zip(map(id, leaves), zip(leaves, types, strict=True), strict=True))
    names = dict(zip(map(id, leaves), column_names(leaves), strict=True))
    matches: dict[str, Match] = {}
    columns = [column for column in table.columns if not column.generated]
    for test in _tests(names):
        for column in (column for column in columns if column.name not in matches):
            found = [(leaf, kind) for leaf, kind in unused.values() if test(column.name, leaf) and _takes(column, kind)]
            if found:
                leaf, kind = min(found, key=lambda one: len(one[0].path))
                matches[column.name] = Match(column, leaf, kind, _options(column, kind))
                del unused[id(leaf)]
    _match_time(table, matches, unused, stream)
    missing = []
    for column in columns:
        if column.name in matches:
            continue
        if column.base in _JSON and column.name in _REST:
            matches[column.name] = Match(column, None, InferredType(column.base), {"unmapped": True})
        else:
            missing.append(column)
    return [matches[column.name] for column in columns if column.name in matches], missing


def _tests(names: dict[int, str]) -> list[Callable[[str, Leaf], bool]]:
    """From the strictest to the loosest: whether a key belongs to the column of a name."""
    return [
        lambda column, leaf: leaf.path == (column,),
        lambda column, leaf: words_of(column) == names[id(leaf)],
        lambda column, leaf: words_of(column) == _joined(leaf),
        lambda column, leaf: words_of(column) == leaf.words,
        lambda column, leaf: names[id(leaf)] in _SYNONYMS.get(words_of(column), ()),
    ]


def _joined(leaf: Leaf) -> str:
    return "_".join(words_of(str(step)) for step in leaf.path)


def _takes(column: TableColumn, found: InferredType) -> bool:
    """Whether values of the inferred type can go into the column. The server may still reject some."""
    base = column.base
    if base in _TEXTS or base not in _ACCEPTING.keys() | _NUMBERS | _TIMES | _JSON:
        return found.sql != "jsonb" or base.startswith("_")
    if base in _JSON:
        return found.sql == "jsonb"
    if base == "uuid":
        return found.sql in ("uuid", "text", "int8")
    return base in _ACCEPTING.get(found.sql, ())


def _options(column: TableColumn, found: InferredType) -> dict[str, Any]:
    if column.base == "uuid" and found.sql != "uuid":
        return {"uuid5": True}
    if column.base in _TEXTS:
        return {}
    return dict(found.options)


def _match_time(
    table: Table, matches: dict[str, Match], unused: dict[int, tuple[Leaf, InferredType]], stream: bool
) -> None:
    """The time of a table may have any name: it gets the time of the sample, else that of the entry's id."""
    column = table.by_name.get(table.time or "")
    if column is None or column.name in matches or column.generated:
        return
    leaves = [leaf for leaf, _ in unused.values()]
    index = choose_time(leaves, [found for _, found in unused.values()])
    if index is not None:
        leaf, found = unused.pop(id(leaves[index]))
        matches[column.name] = Match(column, leaf, found, dict(found.options))
    elif stream:
        matches[column.name] = Match(column, None, InferredType("timestamptz"), {"entry": "time"})
