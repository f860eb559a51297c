"""Archiving as steps of a flow."""

from __future__ import annotations

from infra.connections.clients import Clients
from infra.errors.exceptions import Transient
from tasks.archive.archive_root import open_root
from tasks.archive.drop_archived import DropOutcome, drop_archived
from tasks.archive.manifest import Manifest
from tasks.archive.supersede import supersede
from tasks.archive.write_chunk import archive_chunk
from tasks.base.step import step
from tasks.maintain.contention import ChunkGone
from tasks.table.chunks import Chunk

_ROUNDS = 3


@step("archive")
def archive(clients: Clients, chunk: Chunk) -> Manifest | None:
    """`archive_chunk` below `SPILLWAY_ARCHIVE_URL`, as a task; None where the chunk is gone."""
    root = open_root(clients.settings.archive_url)
    with clients.translate_errors(f"archive {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        try:
            return archive_chunk(connection, chunk, root)
        except ChunkGone:
            return None


@step("archive beside")
def archive_and_keep(clients: Clients, chunk: Chunk) -> Manifest | None:
    """Archive a chunk that stays, verify it, and remove the older archives of it whose rows are all in this one.

    None where the chunk is gone. Without the last, a chunk that gets late rows would have an archive more each day.
    """
    root = open_root(clients.settings.archive_url)
    with clients.translate_errors(f"archive {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        try:
            manifest = archive_chunk(connection, chunk, root)
        except ChunkGone:
            return None
        supersede(connection, chunk, manifest, root)
        return manifest


@step("drop archived", retries=1)
def drop_after_archive(clients: Clients, chunk: Chunk, manifest: Manifest, size: int | None) -> DropOutcome:
    """`drop_archived`, as a task."""
    root = open_root(clients.settings.archive_url)
    with clients.translate_errors(f"drop {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        return drop_archived(connection, chunk, manifest, root, size)


def archive_and_drop(clients: Clients, chunk: Chunk, size: int | None = None) -> Manifest | None:
    """Archive a chunk of so many bytes and drop it; where rows came in between, archive it again, a few times.

    None where it is gone. Raises `Transient` where rows came every time: it stays until the next run, and its archives
    are whole.
    """
    for _ in range(_ROUNDS):
        manifest = archive(clients, chunk)
        if manifest is None or drop_after_archive(clients, chunk, manifest, size) != "changed":
            return manifest
    raise Transient(
        f"archive {chunk.schema}.{chunk.table}: rows came each of {_ROUNDS} times between its archive and its drop; it"
        " stays until the next run"
    )
