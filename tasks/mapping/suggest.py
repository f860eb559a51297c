"""Proposes a mapping for a sample of a stream or a file, with a table for it if there is none. A person checks it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.mapping.toml_write import toml_name, toml_value
from infra.tables.table import Table, TableColumn
from tasks.columns.entries import EntryColumns
from tasks.mapping.infer_types import InferredType, infer_type
from tasks.mapping.leaves import Leaf, elements_of, find_each, find_leaves
from tasks.mapping.match_table import match_table
from tasks.mapping.propose_table import ProposedTable, propose_table
from tasks.mapping.sample_documents import Document, SampledDocuments, read_documents


@dataclass(frozen=True)
class ProposedMapping:
    """A section of spillway.toml. `table`: the table to create; None if it exists.

    `notes`: what its reader should check, such as columns that nothing fills. `sampled`: documents that it was made
    from. `unreadable`: entries without one.
    """

    toml: str
    table: ProposedTable | None
    notes: Sequence[str]
    sampled: int
    unreadable: int


@dataclass(frozen=True)
class _Filled:
    """A column of the mapping: its name, its key (None if the options say where its values come from), its options."""

    name: str
    leaf: Leaf | None
    type: InferredType
    options: Mapping[str, Any]


def suggest(
    name: str, groups: Sequence[EntryColumns], stream: bool, table: Table | None, new_table: str, target: str
) -> ProposedMapping:
    """A mapping of the entries in `groups` into `table`, or into a new one.

    `name`: of the stream or file in the mapping. `stream`: whether the entries have ids that are times. `new_table`:
    the name of a new table, without its schema. `target`: the name of the table in the mapping.
    """
    sample = read_documents(groups)
    documents, each = _rows(sample)
    leaves = find_leaves(documents)
    notes = [f"{sample.unreadable} of {len(sample.documents) + sample.unreadable} entries have no readable document"]
    notes = notes if sample.unreadable else []
    proposed = None
    missing: Sequence[TableColumn] = ()
    if table is None:
        proposed = propose_table(new_table, leaves, documents, sample.layout, stream)
        filled = [_new_column(column.name, column.leaf, column.type) for column in proposed.columns]
        if not proposed.key:
            notes.append("no key was found: each entry becomes one row; add a primary key to detect duplicate entries")
    else:
        matches, missing = match_table(table, leaves, sample.layout, stream)
        filled = [_Filled(match.column.name, match.leaf, match.type, match.options) for match in matches]
    notes += [_missing(column) for column in missing]
    return ProposedMapping(
        _toml(name, target, sample, each, filled), proposed, notes, len(documents), sample.unreadable
    )


def _rows(sample: SampledDocuments) -> tuple[Sequence[Document], str | None]:
    each = find_each(sample.documents, _has_time) if sample.layout == "json" else None
    return (sample.documents, None) if each is None else (elements_of(sample.documents, each), each)


def _has_time(documents: Sequence[Document]) -> bool:
    return any(infer_type(leaf, "json").sql == "timestamptz" for leaf in find_leaves(documents))


def _new_column(name: str, leaf: Leaf | None, inferred: InferredType) -> _Filled:
    return _Filled(name, leaf, inferred, inferred.options if leaf else {"entry": "time"})


def _missing(column: TableColumn) -> str:
    if column.required:
        return f"no key was found for {column.name} ({column.type}), which every row must have: name its source"
    return f"no key was found for {column.name} ({column.type}): it gets its default"


def _toml(name: str, table: str, sample: SampledDocuments, each: str | None, columns: Sequence[_Filled]) -> str:
    section = f"streams.{toml_value(name)}"
    lines = [f"[{section}]", f"table = {toml_value(table)}"]
    if sample.layout == "json":
        keys = {column.leaf.key for column in columns if column.leaf}
        if sample.field != "data" or not keys.isdisjoint(sample.fields):  # else the fields of an entry are enough
            lines.append('layout = "json"')
        if sample.field != "data":
            lines.append(f"field = {toml_value(sample.field)}")
        if sample.encodings:
            lines.append(f"encoding = {toml_value(sample.encodings)}")
        if each is not None:
            lines.append(f"each = {toml_value(each)}")
    elif "data" in sample.fields:
        lines.append('layout = "flat"')
    shared = _shared_nulls(columns)
    if shared:
        lines.append(f"null = {toml_value(sorted(shared))}")
    mapped = [line for column in columns if (line := _column(column, shared))]
    if mapped:
        lines += ["", f"[{section}.columns]", *mapped]
    return "\n".join(lines)


def _shared_nulls(columns: Sequence[_Filled]) -> frozenset[str]:
    """The texts that mean null in more than one column. One that means null in one column may be data in another."""
    counts = Counter(text for column in columns for text in column.type.nulls)
    return frozenset(text for text, count in counts.items() if count > 1)


def _column(column: _Filled, shared: frozenset[str]) -> str | None:
    """The line of a column; None if it needs none."""
    options = dict(column.options)
    if own := column.type.nulls - shared:
        options["null"] = sorted(own | (column.type.nulls & shared))
    if column.leaf is None:
        return f"{toml_name(column.name)} = {toml_value(options)}"
    key = column.leaf.key
    named = key if not set("{}") & set(key) else f"{{{key}}}"
    if not options:
        return None if column.leaf.path == (column.name,) else f"{toml_name(column.name)} = {toml_value(named)}"
    if column.leaf.path != (column.name,):
        options = {"key": named, **options}
    return f"{toml_name(column.name)} = {toml_value(options)}"
