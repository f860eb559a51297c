"""Bind mappings to their tables, as the catalog describes these now."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from infra.connections.clients import Clients
from infra.mapping.stream_mapping import StreamMapping
from infra.tables.read_table import default_table_name, read_table
from infra.tables.table import Table
from tasks.columns.row_layout import RowLayout, bind
from tasks.preflight.table_fit import check_tables


def read_layout(connection: psycopg.Connection, mapping: StreamMapping) -> RowLayout:
    """Bind a mapping to its table. Raises `Terminal` if there is no such table, and `psycopg.Error`."""
    return bind(mapping, read_table(connection, mapping.table or default_table_name()))


def read_layouts(connection: psycopg.Connection, mappings: Mapping[str, StreamMapping]) -> dict[str, RowLayout]:
    """The layout of each stream, by its name. Each table is read once. Raises as `read_layout`."""
    names = {mapping.table or default_table_name() for mapping in mappings.values()}
    tables: dict[str, Table] = {name: read_table(connection, name) for name in sorted(names)}
    return {
        stream: bind(mapping, tables[mapping.table or default_table_name()]) for stream, mapping in mappings.items()
    }


def read_stream_layouts(clients: Clients, mappings: Mapping[str, StreamMapping]) -> dict[str, RowLayout]:
    """`read_layouts` of streams or files that are loaded, with a connection of its own.

    Raises `SpillwayError`, also if rows do not fit into a table as it is now.
    """
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        layouts = read_layouts(connection, mappings)
        check_tables(connection, layouts.values())
        return layouts


def read_stream_layout(clients: Clients, mapping: StreamMapping) -> RowLayout:
    """`read_layout`, with a connection of its own. Raises `SpillwayError`."""
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        return read_layout(connection, mapping)
