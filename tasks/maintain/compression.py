"""Compression: set the server's policy as the options want."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from infra.errors.exceptions import WrongUse
from infra.tables.table import Table
from tasks.base.step import step
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.jobs import Change, Job, apply_changes, enable_again, format_age, is_community, read_jobs
from tasks.maintain.maintained_table import MaintainedTable
from tasks.table.chunks import has_chunks


@dataclass(frozen=True)
class DesiredPolicy:
    """Chunks that are wholly older than `after` are compressed with `layout`; None leaves it to the server."""

    after: timedelta
    layout: CompressionLayout | None


@dataclass(frozen=True)
class CurrentPolicy:
    """How the server is set. `enabled`: whether the table can be compressed. `layout`: None if it cannot, or if the
    server chooses."""

    layout: CompressionLayout | None
    jobs: tuple[Job, ...]
    enabled: bool = True


@dataclass(frozen=True)
class ColumnstoreSql:
    """The SQL for compression. Its names changed in TimescaleDB 2.18; the older ones still work."""

    set_layout: str
    add: str
    remove: str
    convert: str


COLUMNSTORE_NAMES = ColumnstoreSql(
    "ALTER TABLE {table} SET (timescaledb.enable_columnstore, timescaledb.segmentby = {segmentby},"
    " timescaledb.orderby = {orderby})",
    "CALL add_columnstore_policy({name}, after => {after}::interval)",
    "CALL remove_columnstore_policy({name}, if_exists => true)",
    "CALL convert_to_columnstore({chunk}::regclass, recompress => {whole})",
)
COMPRESSION_NAMES = ColumnstoreSql(
    "ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = {segmentby},"
    " timescaledb.compress_orderby = {orderby})",
    "SELECT add_compression_policy({name}, compress_after => {after}::interval)",
    "SELECT remove_compression_policy({name}, if_exists => true)",
    "SELECT compress_chunk({chunk}::regclass, recompress => {whole})",
)

_FOUND = """
    SELECT h.compression_enabled, s.segmentby, s.orderby
      FROM timescaledb_information.hypertables AS h
      JOIN timescaledb_information.hypertable_compression_settings AS s ON s.hypertable = %(table)s::regclass
      JOIN pg_class AS r ON r.oid = s.hypertable AND r.relname = h.hypertable_name
                        AND r.relnamespace = to_regnamespace(quote_ident(h.hypertable_schema))"""


def columnstore_sql(connection: psycopg.Connection) -> ColumnstoreSql:
    """The newest SQL names that the server has. Raises `psycopg.Error`."""
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'add_columnstore_policy')").fetchone()
    return COLUMNSTORE_NAMES if row is not None and row[0] else COMPRESSION_NAMES


def read_current_policy(connection: psycopg.Connection, table: Table) -> CurrentPolicy:
    """How the server is set. Raises `psycopg.Error`."""
    if not has_chunks(table):
        return CurrentPolicy(None, (), enabled=False)
    row = connection.execute(_FOUND, {"table": table.regclass}).fetchone()
    enabled, segmentby, orderby = row or (False, None, None)
    layout = CompressionLayout.of_server(segmentby, orderby, table.time or "") if enabled and orderby else None
    return CurrentPolicy(layout, tuple(read_jobs(connection, table, "compression")), bool(enabled))


def compression_changes(
    found: CurrentPolicy, wanted: DesiredPolicy | None, words: ColumnstoreSql, one: MaintainedTable
) -> list[Change]:
    """The changes that set the server to `wanted`, in order; empty if it already is. None means no compression."""
    table = one.table
    remove = _statement(words.remove, table)
    if wanted is None:
        why = f"compression policy removed: {one.options.source('compress_after')} is empty"
        return [Change(why, remove)] * bool(found.jobs)
    todo = []
    if wanted.layout is not None and found.layout != wanted.layout:
        before = f" instead of {found.layout}" if found.layout else ""
        statement = _statement(
            words.set_layout,
            table,
            segmentby=wanted.layout.segmentby_sql,
            orderby=wanted.layout.orderby_sql,
        )
        todo.append(Change(f"compression set: {wanted.layout}{before}", statement))
    add = _statement(words.add, table, after=wanted.after)
    if not found.jobs:
        todo.append(Change(f"compression policy added: after {format_age(wanted.after)}", add))
    elif len(found.jobs) > 1 or found.jobs[0].after != wanted.after:
        # `if_not_exists` would keep the existing policy.
        before = ", ".join(format_age(job.after) if job.after else "another condition" for job in found.jobs)
        todo += [Change(f"compression policy after {before}: removed", remove)] * len(found.jobs)
        todo.append(Change(f"compression policy added: after {format_age(wanted.after)}", add))
    elif not found.jobs[0].enabled:
        todo.append(enable_again(found.jobs[0]))
    return todo


def _statement(text: str, table: Table, **values: object) -> sql.Composed:
    literals = {name: sql.Literal(value) for name, value in values.items()}
    return sql.SQL(text).format(table=table.identifier, name=sql.Literal(table.regclass), **literals)


def desired_policy(one: MaintainedTable, current: CurrentPolicy) -> DesiredPolicy | None:
    """The policy that the options want; None if compression is off or the table has no chunks.

    What neither `spillway.toml` nor a variable sets stays as the user has set it in the database, except for `events`.
    Raises `WrongUse` for an invalid list of columns.
    """
    options = one.options
    after = options.compress_after
    if not one.is_events and "compress_after" not in options.configured and current.jobs:
        after = current.jobs[0].after or after
    if after is None or not has_chunks(one.table):
        return None
    return DesiredPolicy(after, _desired_layout(one, current))


def _desired_layout(one: MaintainedTable, current: CurrentPolicy) -> CompressionLayout | None:
    table, options = one.table, one.options
    if options.segmentby is None and options.orderby is None and current.enabled:
        return current.layout
    sources = (options.source("segmentby"), options.source("orderby"))
    wanted = CompressionLayout.parse(options.segmentby or "", options.orderby or "", table.time or "", sources)
    if absent := [name for name in wanted.columns if name not in table.by_name]:
        raise WrongUse(
            f"{' or '.join(sources)}: expected columns of {table.display_name}, found {', '.join(absent)}; nothing was"
            f" compressed; name some of {', '.join(table.by_name)}"
        )
    return wanted


@step("set compression policy")
def set_compression_policy(clients: Clients, one: MaintainedTable, dry_run: bool) -> list[str]:
    """Set the server's compression policy as the options want. Returns the changes made, or in a dry run needed."""
    with clients.translate_errors(f"{one.prefix}set compression policy"), clients.postgres() as connection:
        if not has_chunks(one.table) or not is_community(connection):
            return []
        current = read_current_policy(connection, one.table)
        todo = compression_changes(current, desired_policy(one, current), columnstore_sql(connection), one)
        if not dry_run:
            apply_changes(connection, todo)
        return [change.what for change in todo]
