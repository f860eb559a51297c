"""Checks a mapping against a sample of a stream or a file: what becomes of each column, and which rows are rejected.

The sample is inserted in a transaction that is rolled back, so it meets every constraint and trigger of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.connections.clients import Clients
from infra.mapping.column_source import ColumnSource
from infra.mapping.paths import template_text
from infra.mapping.stream_mapping import StreamMapping, StreamMappings
from infra.tables.read_table import read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import DecodedRows, Fault, TimeWindow, decode
from tasks.columns.entries import EntryColumns
from tasks.columns.parts import take_apart
from tasks.columns.row_layout import FilledColumn, RowLayout
from tasks.files.formats.spelling import spellings_of
from tasks.files.scan import fit_layout
from tasks.mapping.read_sample import find_file, is_file, sample_file, sample_stream
from tasks.mapping.sample_documents import Document, read_documents
from tasks.mapping.sample_keys import count_keys, near_keys, unmapped_keys
from tasks.preflight.layouts import read_layout
from tasks.preflight.table_fit import table_problems
from tasks.table.insert import InsertRoute, insert_all

SAMPLE = 1_000  # entries or rows
_VALUES = 3
_WHOLE = {
    "document": "the document",
    "unmapped": "all unmapped keys",
    "entry_id": "the entry's id",
    "entry_time": "the time in the entry's id",
}
_EVERY_ID = IdRange(0, 1 << 128)


@dataclass(frozen=True)
class CheckedColumn:
    """A column, the source of its values, three of them, and in how many of n rows it is null."""

    name: str
    type: str
    source: str
    values: tuple[str, ...]
    nulls: int


@dataclass(frozen=True)
class Rejection:
    """A reason for which rows are rejected, and how many. `example`: the id of the entry that `reason` is about."""

    count: int
    column: str
    reason: str
    example: str


@dataclass(frozen=True)
class MappingCheck:
    """What becomes of a sample.

    `entries` and `rows`: how many were read, and how many rows they would become if none were rejected. `duplicates`:
    rows that the table has already, or that repeat. `rejected`: rows that would go to quarantine, for one or more of
    the `rejections`. `unmapped`: keys that no column reads, with the number of documents that have them. `hints`:
    keys of the mapping that no document has, and what may be meant. `problems`: why the mapping does not fit the table.
    """

    table: str
    entries: int
    rows: int
    inserted: int
    duplicates: int
    rejected: int
    columns: Sequence[CheckedColumn]
    rejections: Sequence[Rejection]
    unmapped: Mapping[str, int]
    hints: Sequence[str]
    problems: Sequence[str]

    @property
    def fits(self) -> bool:
        """Whether the mapping fits the table, and every row of the sample would be accepted."""
        return not self.rejected and not self.problems


def check_source(clients: Clients, mappings: StreamMappings, source: str, wanted: str | None) -> MappingCheck:
    """Check the mapping of a stream or a file. `wanted`: another table than that of the mapping.

    Raises `SpillwayError`.
    """
    file = find_file(source) if is_file(source) else None
    mapping = mappings.for_stream(source if file is None else file.path.rpartition("/")[2])
    with clients.translate_errors("mapping check"), clients.postgres() as connection:
        if wanted is not None:
            mapping = _for_table(mapping, wanted, read_table(connection, wanted).by_name)
        layout = read_layout(connection, mapping)
    with clients.translate_errors(f"read {source}"):
        if file is None:
            groups = sample_stream(clients.redis, source, SAMPLE)
        else:
            sample = sample_file(file, SAMPLE, spellings_of(layout))
            groups = sample.groups
            layout = fit_layout(layout, groups[0].keys or ()).with_json_keys(sample.json_keys)
    with clients.translate_errors("mapping check"), clients.postgres() as connection:
        window = TimeWindow.around_now(clients.settings.max_age_days, clients.settings.max_ahead_days)
        batch = Batch(source, _EVERY_ID, groups, layout, window)
        with connection.transaction(force_rollback=True):
            outcome = insert_all(connection, batch.tables, InsertRoute.MERGE)
    return describe(batch, groups, window, outcome.inserted, outcome.duplicates, outcome.faults)


def _for_table(mapping: StreamMapping, wanted: str, columns: Mapping[str, Any]) -> StreamMapping:
    """The mapping for another table. The column of `events` that it implies is left out if the table has none such."""
    implied = mapping.table is None and "properties" not in columns
    kept = {name: source for name, source in mapping.columns.items() if not (implied and name == "properties")}
    return replace(mapping, table=wanted, columns=kept, route_key=None, routes={})


def describe(
    batch: Batch,
    groups: Sequence[EntryColumns],
    window: TimeWindow,
    inserted: int,
    duplicates: int,
    faults: Sequence[Fault],
) -> MappingCheck:
    """What became of a batch: `inserted` rows, `duplicates` and `faults` of the server, besides those of the batch."""
    layout = batch.layout
    parts = take_apart(groups, layout)
    documents = _documents(parts.groups, layout)
    keys = count_keys(documents)
    things = f"{len(documents):,} {'entries' if layout.mapping.each is None else 'elements'}"
    columns: list[CheckedColumn] = []
    found = [*batch.encoded.faults, *faults]
    routed = _entries_by_table(batch, parts.groups)
    for one, groups_of_table, entries in routed:
        for column in one.columns:
            decoded = _decode_alone(column, groups_of_table, one, window)
            columns.append(_checked(column, decoded, f"{one.table.name}." if layout.routes else ""))
            found += [replace(fault, entry=int(entries[fault.entry])) for fault in decoded.faults]
    return MappingCheck(
        ", ".join(dict.fromkeys(one.table.display_name for one, _, _ in routed)),
        batch.read,
        batch.count,
        inserted,
        duplicates,
        len({fault.entry for fault in found}),
        columns,
        _rejections(batch, found),
        unmapped_keys([one for one, _, _ in routed], layout.mapping.route_key, keys),
        list(dict.fromkeys(hint for one, _, _ in routed for c in one.columns for hint in near_keys(c, keys, things))),
        [problem for one, _, _ in routed for problem in table_problems(one, tables=layout.tables)],
    )


def _entries_by_table(
    batch: Batch, groups: Sequence[EntryColumns]
) -> list[tuple[RowLayout, Sequence[EntryColumns], NDArray[np.int64]]]:
    """For each table: its layout, the parts of the batch that go to it, and their indexes in the batch."""
    if not batch.layout.routes:
        return [(batch.layout, groups, np.arange(batch.count))]
    found: list[tuple[RowLayout, Sequence[EntryColumns], NDArray[np.int64]]] = []
    for rows in batch.tables:
        encoded = rows.encoded
        others = [*(fault.entry for fault in encoded.faults), *(part for _, part in encoded.repeats)]
        entries = np.unique(np.concatenate([encoded.row_entry, np.array(others, np.int64)]))
        found.append((rows.layout, _take(groups, entries), entries))
    return found


def _take(groups: Sequence[EntryColumns], entries: NDArray[np.int64]) -> list[EntryColumns]:
    """The entries at some ascending indexes, counted group after group."""
    taken, first = [], 0
    for group in groups:
        inside = entries[(entries >= first) & (entries < first + len(group))] - first
        taken.append(group.take(inside))
        first += len(group)
    return taken


def _decode_alone(
    column: FilledColumn, groups: Sequence[EntryColumns], layout: RowLayout, window: TimeWindow
) -> DecodedRows:
    """The values of a column in every entry that has a valid one, whatever is wrong with its other columns."""
    if column.source.whole == "unmapped":  # what is unmapped depends on the other columns
        return decode(groups, layout, window)
    alone = replace(layout.with_columns((column,)), mapping=replace(layout.mapping, unknown="ignore"))
    return decode(groups, alone, window)


def _checked(column: FilledColumn, decoded: DecodedRows, prefix: str) -> CheckedColumn:
    values = decoded.rows.column(column.name)
    some = values.drop_null()
    if some.type == column.type.arrow and len(some):
        some = column.type.to_text(some)
    distinct = list(dict.fromkeys(_text(value) for value in some.to_pylist()))
    kind = column.column.type if column.column.constrained else column.column.base.replace("_", "", 1)
    name = prefix + column.name
    return CheckedColumn(name, kind, source_text(column), tuple(distinct[:_VALUES]), values.null_count)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def source_text(column: FilledColumn) -> str:
    """The source of a column, as a mapping names it."""
    source: ColumnSource = column.source
    if source.whole is not None:
        return {"document": "the document", "unmapped": "unmapped keys"}.get(
            source.whole, source.whole.replace("_", " ")
        )
    if source.constant is not None:
        return f"constant {source.constant!r}"
    return " or ".join([template_text(source.pieces), *source.alternatives])


def _rejections(batch: Batch, faults: Sequence[Fault]) -> list[Rejection]:
    """The faults by column and reason, the most frequent first."""
    found: dict[tuple[str, str], dict[int, Fault]] = {}
    for fault in faults:
        of_reason = found.setdefault((fault.field, fault.reason.partition(", found ")[0]), {})
        of_reason.setdefault(fault.entry, fault)
    ordered = sorted(found.items(), key=lambda one: -len(one[1]))
    return [
        Rejection(len(same), column, next(iter(same.values())).reason, batch.raw(next(iter(same)))[0])
        for (column, _), same in ordered
    ]


def _documents(groups: Sequence[EntryColumns], layout: RowLayout) -> Sequence[Document]:
    field = None
    if any(layout.shape_of(group.keys or ()) == "json" for group in groups):
        field = layout.mapping.document_field.decode(errors="replace")
    return read_documents(groups, field, flat=field is None).documents
