"""Archiving as steps of a flow."""

from __future__ import annotations

from infra.connections import Clients
from infra.errors import Transient
from tasks.archive.drop import Outcome, drop_archived
from tasks.archive.manifest import Manifest
from tasks.archive.root import open_root
from tasks.archive.write import archive_chunk
from tasks.chunks import Chunk
from tasks.step import step

_ROUNDS = 3


@step("archive")
def archive(clients: Clients, chunk: Chunk) -> Manifest:
    """`archive_chunk` below `SPILLWAY_ARCHIVE_URL`, as a task."""
    root = open_root(clients.settings.archive_url)
    with clients.explained(f"archive {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        return archive_chunk(connection, chunk, root)


@step("drop archived")
def drop(clients: Clients, chunk: Chunk, manifest: Manifest) -> Outcome:
    """`drop_archived`, as a task."""
    root = open_root(clients.settings.archive_url)
    with clients.explained(f"drop {chunk.schema}.{chunk.table}"), clients.postgres() as connection:
        return drop_archived(connection, chunk, manifest, root)


def archive_and_drop(clients: Clients, chunk: Chunk) -> Manifest:
    """Archive a chunk and drop it; where rows came in between, archive it again, a few times.

    Raises `Transient` where rows came every time: it stays until the next run, and its archives are whole.
    """
    for _ in range(_ROUNDS):
        manifest = archive(clients, chunk)
        if drop(clients, chunk, manifest) != "changed":
            return manifest
    raise Transient(
        f"archive {chunk.schema}.{chunk.table}: rows came each of {_ROUNDS} times between its archive and its drop; it"
        " stays until the next run"
    )
