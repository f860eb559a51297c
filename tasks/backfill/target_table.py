"""The tables that a backfill loads into: several, if its files have different mappings or a mapping has a route."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.connections.clients import Clients
from infra.epoch import EPOCH
from infra.tables.read_table import default_table_name, read_table
from infra.tables.table import Table
from tasks.backfill.chunk_map import ChunkMap, compressed_borders, read_chunk_map
from tasks.base.step import step
from tasks.columns.row_layout import RowLayout
from tasks.maintain.maintained_table import MaintainedTable, maintained_table
from tasks.table.chunks import has_chunks


@dataclass(frozen=True)
class TargetTable:
    """A table that rows are loaded into, and its chunks before the first load."""

    maintained: MaintainedTable
    chunks: ChunkMap

    @property
    def table(self) -> Table:
        """The table as the catalog describes it."""
        return self.maintained.table

    @property
    def keep(self) -> timedelta | None:
        """The age at which its chunks are dropped; None for never."""
        return self.maintained.options.keep if has_chunks(self.table) else None


TargetTables = Mapping[str, TargetTable]  # by name, as `Table.regclass`


def tables_of(layout: RowLayout) -> tuple[Table, ...]:
    """The tables that the rows of a layout may go to."""
    routed = [one.table for one in layout.routes.values()]
    named = [layout.table] if layout.mapping.table is not None or not routed else []
    return tuple({table.regclass: table for table in (*named, *routed)}.values())


def borders_of(layout: RowLayout, targets: TargetTables) -> list[int]:
    """The days (ms since 1970) at which compressed chunks of a layout's tables start and end."""
    return sorted({day for table in tables_of(layout) for day in compressed_borders(targets[table.regclass].chunks)})


def shortest_keep(names: Iterable[str], targets: TargetTables) -> timedelta | None:
    """The shortest time that one of some tables keeps rows; None if all keep them forever."""
    return min((keep for name in names if (keep := targets[name].keep) is not None), default=None)


def read_at(targets: TargetTables) -> datetime:
    """The server's time when the chunks were read; without tables, nothing depends on it."""
    return max((target.chunks.now for target in targets.values()), default=EPOCH)


@step("read the table")
def find_table(clients: Clients, name: str | None) -> Table:
    """The table `name`; None for `events`. Raises `Terminal` if there is no such table."""
    with clients.translate_errors("read the table"), clients.postgres() as connection:
        return read_table(connection, name or default_table_name())


@step("read the chunks")
def map_chunks(clients: Clients, layouts: Iterable[RowLayout]) -> TargetTables:
    """The tables of some layouts, with their chunks. Raises `SpillwayError`."""
    tables = {table.regclass: table for layout in layouts for table in tables_of(layout)}
    with clients.translate_errors("read the chunks"), clients.postgres() as connection:
        return {
            name: TargetTable(maintained_table(clients.settings, table), read_chunk_map(connection, table))
            for name, table in tables.items()
        }
