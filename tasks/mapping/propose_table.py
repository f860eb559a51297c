"""A table for the documents of a sample: its columns, its time and its key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from tasks.mapping.infer_types import InferredType, infer_type
from tasks.mapping.leaves import Leaf, words_of
from tasks.mapping.sample_documents import Document

_LONGEST = 63  # bytes of a name in PostgreSQL
# In order of preference: words of a name that is the time of a row.
_TIME_NAMES = (
    "time",
    "occurred_at",
    "event_time",
    "timestamp",
    "created_at",
    "ts",
    "at",
    "datetime",
    "date",
    "created",
    "occurred",
)
_ID_NAMES = ("id", "event_id", "uuid", "guid", "ulid", "uid", "_id")
# Names that say little without the name of their object, unless that says nothing either.
_GENERIC = frozenset({"id", "uuid", "key", "name", "type", "kind", "value", "code", "status", "url", "title"})
_CONTAINERS = frozenset({"data", "payload", "properties", "attributes", "body", "event", "message", "fields", "record"})
_POINT_NAMES = ("longitude", "latitude", "altitude")
_MANY = 100  # documents from which on it means something that all values of a key differ
_KEY_COLUMNS = 3  # of a key, besides the time
_LONGEST_KEY = 64  # characters of a value


@dataclass(frozen=True)
class ProposedColumn:
    """A column and the key that fills it; no key for the time in the entry's id."""

    name: str
    leaf: Leaf | None
    type: InferredType
    required: bool = False


@dataclass(frozen=True)
class ProposedTable:
    """A table. `time`: the column that a hypertable is partitioned by. `key`: of the primary key; empty for none."""

    name: str
    columns: Sequence[ProposedColumn]
    time: str | None
    key: tuple[str, ...]


def propose_table(
    name: str, leaves: Sequence[Leaf], documents: Sequence[Document], layout: str, stream: bool
) -> ProposedTable:
    """A table that takes all documents.

    `stream`: whether each has an entry id, which gives the time if nothing else does.
    """
    types = [infer_type(leaf, layout) for leaf in leaves]
    names = column_names(leaves)
    time = choose_time(leaves, types)
    complete = [leaf.present == len(documents) and not found.nulls for leaf, found in zip(leaves, types, strict=True)]
    columns = [ProposedColumn(*parts) for parts in zip(names, leaves, types, strict=True)]
    key = _choose_key(name, columns, documents, complete, time)
    if time is not None:
        time_name: str | None = names[time]
    elif stream and columns:
        time_name = _unused("time", set(names))
        columns.insert(0, ProposedColumn(time_name, None, InferredType("timestamptz", note="of the entry's id")))
    else:
        time_name = None
    if key and time_name is not None:
        key = (*(column for column in key if column != time_name), time_name)
    required = {*key, *([time_name] if time_name else [])}
    columns = [ProposedColumn(one.name, one.leaf, one.type, one.name in required) for one in columns]
    return ProposedTable(name, columns, time_name, key)


def choose_time(leaves: Sequence[Leaf], types: Sequence[InferredType]) -> int | None:
    """The index of the key that is the time of a row: every document has it. The least nested one, by its name."""
    found = []
    for index, (leaf, inferred) in enumerate(zip(leaves, types, strict=True)):
        if inferred.is_time and not inferred.nulls and leaf.present == len(leaf.values):
            words = leaf.words
            rank = next((r for r, name in enumerate(_TIME_NAMES) if words == name or words.endswith(f"_{name}")), 99)
            found.append((inferred.sql != "timestamptz", rank, len(leaf.path), index))
    return min(found)[-1] if found else None


def column_names(leaves: Sequence[Leaf]) -> list[str]:
    """A name for each key: the last one of its path, with as many of those before it as make it unique."""
    taken: set[str] = set()
    names = []
    for leaf in sorted(leaves, key=lambda leaf: len(leaf.path)):
        steps = [step for step in leaf.path if isinstance(step, str)]
        index = next((step for step in leaf.path if isinstance(step, int)), None)
        suffix = "" if index is None else f"_{index}"
        if index is not None and steps[-1] == "coordinates" and index < len(_POINT_NAMES):
            steps[-1], suffix = _POINT_NAMES[index], ""
        starts = list(reversed(range(len(steps))))
        if len(steps) > 1 and words_of(steps[-1]) in _GENERIC and words_of(steps[-2]) not in _CONTAINERS:
            starts.remove(len(steps) - 1)  # customer_id, not id
        choices = ["_".join(map(words_of, steps[start:])) + suffix for start in starts]
        name = next((choice for choice in map(_sql_name, choices) if choice not in taken), None)
        name = _unused(name or _sql_name(choices[-1]), taken)
        taken.add(name)
        names.append((leaf.path, name))
    by_path = dict(names)
    return [by_path[leaf.path] for leaf in leaves]


def _sql_name(text: str) -> str:
    """A name that PostgreSQL takes without quotes, unless it is a reserved word."""
    text = text.strip("_") or "column"
    text = text if re.match(r"[^\W\d]", text) else f"_{text}"
    return text.encode()[:_LONGEST].decode(errors="ignore")


def table_name(source: str) -> str:
    """A name for the table of a stream or a file: `weather` of `weather.csv.gz`."""
    stem = source.rpartition("/")[2]
    stem = re.sub(r"(\.(ndjson|jsonl|json|geojson|csv|tsv|parquet|pq|gz|gzip|zst|zstd))+$", "", stem.lower()) or stem
    return _sql_name(words_of(stem))


def _unused(name: str, taken: set[str]) -> str:
    number, found = 2, name
    while found in taken:
        tail = f"_{number}"
        found = name.encode()[: _LONGEST - len(tail)].decode(errors="ignore") + tail
        number += 1
    return found


def _choose_key(
    name: str,
    columns: Sequence[ProposedColumn],
    documents: Sequence[Document],
    complete: Sequence[bool],
    time: int | None,
) -> tuple[str, ...]:
    """Columns that identify a row: an id, else some texts and the time. Empty if nothing is convincing."""
    distinct = _distinct(documents)
    usable = [
        column
        for column, whole in zip(columns, complete, strict=True)
        if whole and column.leaf and column.type.sql in ("text", "uuid", "int8") and not _long(column.leaf)
    ]
    ids = [column for column in usable if _is_id(name, column, len(distinct)) and _unique([column], distinct)]
    if ids:
        return (min(ids, key=_id_rank).name,)
    texts = [column for column in usable if column.type.sql != "int8"]
    if time is None or not texts or len(texts) > _KEY_COLUMNS or len(distinct) < _MANY:
        return ()
    key = [*texts, columns[time]]
    return tuple(column.name for column in key) if _unique(key, distinct) else ()


def _distinct(documents: Sequence[Document]) -> list[int]:
    """The indexes of documents that do not repeat an earlier one."""
    first: dict[bytes, int] = {}
    for index, document in enumerate(documents):
        first.setdefault(orjson.dumps(document, default=str, option=orjson.OPT_SORT_KEYS), index)
    return list(first.values())


def _long(leaf: Leaf) -> bool:
    return any(len(str(value)) > _LONGEST_KEY for value in leaf.values)


def _is_id(table: str, column: ProposedColumn, distinct: int) -> bool:
    words = words_of(column.name)  # `customer_id` of a nested object, which is no id of the row
    singular = table.removesuffix("s")
    own = {f"{table}_id", f"{singular}_id", f"{singular.rpartition('_')[2]}_id"}
    return words in own or words in _ID_NAMES or (distinct >= _MANY and words.endswith(("_id", "_uuid", "_key")))


def _id_rank(column: ProposedColumn) -> tuple[int, bool]:
    assert column.leaf is not None
    return len(column.leaf.path), words_of(column.name) not in _ID_NAMES


def _unique(columns: Sequence[ProposedColumn], rows: Sequence[int]) -> bool:
    values = [column.leaf.values for column in columns if column.leaf]
    return len({tuple(str(value[row]) for value in values) for row in rows}) == len(rows)
