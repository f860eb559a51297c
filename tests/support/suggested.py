"""Proposed mappings, and what a drain with them makes of the entries that they were proposed for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.mapping.stream_mapping import StreamMapping
from infra.mapping.toml import load_mappings
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.decode import EVERY_TIME, DecodedRows, decode
from tasks.columns.entries import EntryColumns, page_to_columns
from tasks.columns.parts import take_apart
from tasks.columns.row_layout import RowLayout, bind
from tasks.mapping.propose_table import ProposedTable
from tasks.mapping.suggest import ProposedMapping, suggest

NAME = 'a "stream"\n*'


def flat_entries(rows: Iterable[Mapping[str, str]]) -> list[EntryColumns]:
    """Entries with the fields of each row, as the pages of a stream give them."""
    page = [(b"%d-0" % number, _fields(row)) for number, row in enumerate(rows, 1_790_000_000_000)]
    return page_to_columns(page)


def _fields(row: Mapping[str, str]) -> list[bytes]:
    return [part.encode() for pair in row.items() for part in pair]


def json_entries(documents: Iterable[Any], field: str = "data") -> list[EntryColumns]:
    """Entries with a document each."""
    return flat_entries({field: json.dumps(document)} for document in documents)


def suggested(groups: Sequence[EntryColumns], table: Table | None = None, name: str = NAME) -> ProposedMapping:
    """The proposal for a stream."""
    return suggest(name, groups, True, table, "found", "found")


def proposed_table(found: ProposedTable) -> Table:
    """The table that the SQL of a proposal would create."""
    columns = tuple(
        TableColumn(column.name, column.type.sql, column.type.sql, nullable=not column.required)
        for column in found.columns
    )
    kind = TableKind.PLAIN if found.time is None else TableKind.HYPERTABLE
    return Table("public", found.name, kind, columns, (found.key,) if found.key else (), found.time)


def loaded(found: ProposedMapping, folder: Path, name: str = NAME) -> StreamMapping:
    """The mapping that spillway.toml has with this proposal."""
    path = folder / "spillway.toml"
    path.write_text(found.toml + "\n")
    return load_mappings(path).for_stream(name)


def layout_of(found: ProposedMapping, folder: Path, name: str = NAME) -> RowLayout:
    """The layout of a drain into the proposed table."""
    assert found.table is not None
    return bind(loaded(found, folder, name), proposed_table(found.table))


def drained(groups: Sequence[EntryColumns], layout: RowLayout) -> DecodedRows:
    """The rows of the entries."""
    return decode(take_apart(groups, layout).groups, layout, EVERY_TIME)
