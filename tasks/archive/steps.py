"""Archiving as steps of the maintain flow."""

from __future__ import annotations

from infra.connections.clients import Clients
from infra.errors.exceptions import Transient
from tasks.archive.drop_archived import DropOutcome, drop_archived
from tasks.archive.manifest import Manifest
from tasks.archive.supersede import supersede
from tasks.archive.table_root import table_root
from tasks.archive.write_chunk import archive_chunk
from tasks.base.step import step
from tasks.maintain.contention import ChunkGone
from tasks.maintain.maintained_table import MaintainedTable
from tasks.table.chunks import Chunk

_ROUNDS = 3


@step("archive")
def archive(clients: Clients, one: MaintainedTable, chunk: Chunk) -> Manifest | None:
    """`archive_chunk` to the location of the table's archives, as a task; None if the chunk was dropped."""
    root = table_root(one)
    with clients.translate_errors(f"archive {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        try:
            return archive_chunk(connection, one.table, chunk, root)
        except ChunkGone:
            return None


@step("archive and keep")
def archive_and_keep(clients: Clients, one: MaintainedTable, chunk: Chunk) -> Manifest | None:
    """Archive a chunk that stays, verify the archive, and remove older archives whose rows are all in this one.

    Otherwise a chunk that gets late rows would gain another archive every day. None if the chunk was dropped.
    """
    root = table_root(one)
    with clients.translate_errors(f"archive {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        try:
            manifest = archive_chunk(connection, one.table, chunk, root)
        except ChunkGone:
            return None
        supersede(connection, one.table, chunk, manifest, root)
        return manifest


@step("drop archived", retries=1)
def drop_after_archive(
    clients: Clients, one: MaintainedTable, chunk: Chunk, manifest: Manifest, size: int | None
) -> DropOutcome:
    """`drop_archived`, as a task."""
    root = table_root(one)
    with clients.translate_errors(f"drop {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        return drop_archived(connection, one.table, chunk, manifest, root, size)


def archive_and_drop(clients: Clients, one: MaintainedTable, chunk: Chunk, size: int | None = None) -> Manifest | None:
    """Archive a chunk of `size` bytes and drop it. If rows arrive in between, archive it again, a few times.

    None if the chunk was dropped by another run. Raises `Transient` if rows arrived each time: the chunk stays, and its
    archives are complete.
    """
    for _ in range(_ROUNDS):
        manifest = archive(clients, one, chunk)
        if manifest is None or drop_after_archive(clients, one, chunk, manifest, size) != "changed":
            return manifest
    raise Transient(
        f"archive {chunk.schema}.{chunk.table}: rows arrived between the archive and the drop at each of {_ROUNDS}"
        " attempts; nothing was dropped; the next run tries again"
    )
