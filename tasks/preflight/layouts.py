"""Bind mappings to their tables, as the catalog describes these now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import psycopg

from infra.connections.clients import Clients
from infra.mapping.stream_mapping import StreamMapping
from infra.tables.read_table import default_table_name, read_table
from infra.tables.table import Table
from tasks.base.step import step
from tasks.columns.row_layout import RowLayout, bind
from tasks.ledger.register_stream import check_routed_tables
from tasks.preflight.rights import check_rights
from tasks.preflight.table_fit import check_tables


def read_layout(connection: psycopg.Connection, mapping: StreamMapping) -> RowLayout:
    """Bind a mapping to its table. Raises `Terminal` if there is no such table, and `psycopg.Error`."""
    return read_layouts(connection, {"": mapping})[""]


def read_layouts(connection: psycopg.Connection, mappings: Mapping[str, StreamMapping]) -> dict[str, RowLayout]:
    """The layout of each stream, by its name. Each table is read once, and streams with one mapping share one layout.

    Raises as `read_layout`.
    """
    different = {id(mapping): mapping for mapping in mappings.values()}
    names = {name for mapping in different.values() for name in tables_of(mapping)}
    tables = {name: read_table(connection, name) for name in sorted(names)}
    layouts = {key: _bound(mapping, tables) for key, mapping in different.items()}
    return {stream: layouts[id(mapping)] for stream, mapping in mappings.items()}


def tables_of(mapping: StreamMapping) -> list[str]:
    """The names of the tables of a mapping, the one of its stream first."""
    names = [mapping.table] if mapping.table is not None else []
    return [*names, *mapping.routes.values()] or [default_table_name()]


def _bound(mapping: StreamMapping, tables: Mapping[str, Table]) -> RowLayout:
    one = replace(mapping, route_key=None, routes={})
    routes = {value: bind(replace(one, table=name), tables[name]) for value, name in mapping.routes.items()}
    return bind(mapping, tables[tables_of(mapping)[0]]).routed(routes)


@step("preflight", retries=2, is_task=False)
def read_stream_layouts(
    clients: Clients, mappings: Mapping[str, StreamMapping], command: str | None = None
) -> dict[str, RowLayout]:
    """`read_layouts` of streams or files that are loaded, with a connection of its own.

    `command`: check the rights that it needs on the tables. Raises `SpillwayError`, also if rows do not fit into a
    table as it is now.
    """
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        if command is not None:
            check_rights(connection, command, (name for mapping in mappings.values() for name in tables_of(mapping)))
        layouts = read_layouts(connection, mappings)
        different = {id(layout): layout for layout in layouts.values()}
        check_tables(connection, different.values())
        used = {key: {table.regclass for table in layout.tables} for key, layout in different.items()}
        check_routed_tables(connection, {name: used[id(layout)] for name, layout in layouts.items()})
        return layouts


@step("preflight", retries=2, is_task=False)
def read_stream_layout(clients: Clients, mapping: StreamMapping) -> RowLayout:
    """`read_layout`, with a connection of its own. Raises `SpillwayError`."""
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        return read_layout(connection, mapping)
