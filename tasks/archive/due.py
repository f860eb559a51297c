"""Find the chunks to archive: those past the age that have no archive with as many rows and the same columns."""

from __future__ import annotations

from bisect import bisect_left
from datetime import timedelta

import psycopg

from infra.connections.clients import Clients
from infra.tables.table import Table
from tasks.archive.archive_root import ArchiveRoot, translate_errors
from tasks.archive.chunk_columns import chunk_shape, shape_of
from tasks.archive.manifest import BadArchive, archive_names, load_manifest, range_name
from tasks.archive.table_root import table_root
from tasks.base.clock import server_now
from tasks.base.step import step
from tasks.maintain.maintained_table import MaintainedTable
from tasks.table.chunks import Chunk, chunks, count


def to_archive(connection: psycopg.Connection, table: Table, root: ArchiveRoot, after: timedelta) -> list[Chunk]:
    """Chunks of `table` that are wholly older than `after` and have no archive with as many rows and the same columns.

    This is a cheap way to find new and grown chunks. The content is compared before a chunk is dropped.
    """
    horizon = server_now(connection) - after
    old = [chunk for chunk in chunks(connection, table) if chunk.range_end <= horizon]
    with translate_errors("chunks to archive", root):
        there = archive_names(root)
        return [
            chunk for chunk in old if _in_table(connection, table, chunk) not in {None, *_archived(root, chunk, there)}
        ]


_Extent = tuple[int, frozenset[tuple[str, str]]]  # the number of rows, and the names and types of the columns


def _in_table(connection: psycopg.Connection, table: Table, chunk: Chunk) -> _Extent | None:
    """The extent of a chunk; None if it was dropped meanwhile."""
    try:
        return count(connection, table, chunk), chunk_shape(connection, chunk)
    except psycopg.errors.UndefinedTable:
        return None


def _archived(root: ArchiveRoot, chunk: Chunk, there: list[str]) -> set[_Extent]:
    """The extents in the archives of a chunk, which are some of `there`, sorted names."""
    found = set()
    mine = f"{range_name(chunk)}_"  # what follows is hexadecimal
    for name in there[bisect_left(there, mine) : bisect_left(there, f"{mine}~")]:
        try:
            manifest = load_manifest(root, name)
            found.add((manifest.rows, shape_of(manifest.columns)))
        except BadArchive:
            continue  # a damaged archive: archive the chunk again
    return found


@step("chunks to archive")
def find_unarchived(clients: Clients, one: MaintainedTable) -> list[Chunk]:
    """`to_archive`, as a task; empty if `SPILLWAY_ARCHIVE_AFTER` is."""
    if one.archive_after is None:
        return []
    root = table_root(one)
    with clients.translate_errors(f"{one.prefix}chunks to archive"), clients.postgres() as connection:
        return to_archive(connection, one.table, root, one.archive_after)
