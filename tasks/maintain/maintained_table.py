"""The tables that are maintained: `events`, those that streams are drained into, and those of `spillway.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from infra.mapping.table_options import TableOptions, TableSections
from infra.mapping.toml import load_table_sections
from infra.settings import Settings
from infra.tables.read_table import default_table_name, is_default, read_table
from infra.tables.table import Table
from tasks.base.step import step
from tasks.ledger.register_stream import TABLES_OF_ROUTES, TABLES_OF_STREAMS
from tasks.maintain.drops import read_drops
from tasks.maintain.row_audit import inserted_rows

_EXISTS = "SELECT to_regclass(%s) IS NOT NULL"
# A superuser owns everything.
_OWNED = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s::regclass"


@dataclass(frozen=True)
class MaintainedTable:
    """A table and how it is maintained. `archive_after`: the age at which chunks are archived; None for just before
    they are dropped. `owned`: the role may set its policies and drop its chunks."""

    table: Table
    options: TableOptions
    archive_after: timedelta | None = None
    owned: bool = True

    @property
    def is_events(self) -> bool:
        """Whether it is the default table."""
        return is_default(self.table)

    @property
    def prefix(self) -> str:
        """What a message about the table begins with; empty for `events`."""
        return "" if self.is_events else f"{self.table.display_name}: "


def maintained_table(config: Settings, table: Table) -> MaintainedTable:
    """The table with its options. Raises `WrongUse` if `spillway.toml` is not valid."""
    return _with_options(config, load_table_sections(config.mappings), table)


def _with_options(config: Settings, sections: TableSections, table: Table, owned: bool = True) -> MaintainedTable:
    return MaintainedTable(table, sections.options(config, table), config.archive_after, owned)


@dataclass(frozen=True)
class FoundTables:
    """The tables to maintain, `events` first. `failed`: errors of those that could not be read. `lost`: violations of
    those that the ledger names and that do not exist."""

    tables: tuple[MaintainedTable, ...]
    failed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def read_maintained(connection: psycopg.Connection, config: Settings) -> FoundTables:
    """Read all tables that are maintained. Raises `psycopg.Error`, and `WrongUse` if `spillway.toml` is not valid."""
    events = default_table_name()
    sections = load_table_sections(config.mappings)
    configured = [sql.Identifier(*name).as_string(None) for name in sections.sections]
    drained = [name for (name,) in connection.execute(f"{TABLES_OF_STREAMS} UNION {TABLES_OF_ROUTES}")]
    names = dict.fromkeys([events, *sorted({*drained, *configured})])
    tables, failed, lost = [], [], []
    for name in names:
        (exists,) = connection.execute(_EXISTS, [name]).fetchone() or (False,)
        if not exists and name in drained and name != events:
            lost += _lost(connection, name)
            continue
        try:
            table = read_table(connection, name)
        except Terminal as error:
            failed.append(one_line(error))
            continue
        (owned,) = connection.execute(_OWNED, [name]).fetchone() or (False,)
        tables.append(_with_options(config, sections, table, owned))
    return FoundTables(tuple(tables), tuple(failed), tuple(lost))


def _lost(connection: psycopg.Connection, name: str) -> list[str]:
    """A violation if the ledger counts rows as inserted into a table that does not exist; otherwise empty."""
    inserted = inserted_rows(connection, name, is_events=False)
    missing = inserted - read_drops(connection, name).rows_after(None)
    if missing <= 0:
        return []
    return [
        f"{name}: {missing:,} rows are gone: the ledger says {inserted:,} were inserted, found no such table; restore"
        " it from a backup, or put on record that it was dropped (docs/operations.md)"
    ]


@step("tables")
def find_tables(clients: Clients) -> FoundTables:
    """`read_maintained`, as a task."""
    with clients.translate_errors("tables"), clients.postgres() as connection:
        return read_maintained(connection, clients.settings)
