"""Drop a chunk whose rows are all in a verified archive, while drains run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

import psycopg

from infra.errors.exceptions import Terminal, Transient
from infra.tables.table import Table
from tasks.archive.archive_lock import lock_archives
from tasks.archive.archive_root import ArchiveRoot, translate_errors
from tasks.archive.chunk_columns import chunk_shape, shape_of
from tasks.archive.content_hash import Content, day_bounds, server_content, sum_contents
from tasks.archive.manifest import DAMAGED_ADVICE, BadArchive, Manifest, load_manifest
from tasks.archive.supersede import supersede
from tasks.base.progress import StepReached, emit
from tasks.files.archive_paths import archive_folder
from tasks.maintain.contention import ChunkBusy, ChunkGone, block_writers, retry_on_contention, yield_to_writers
from tasks.maintain.drops import drop_and_record
from tasks.table.chunks import Chunk

# dropped: by this call. changed: rows or columns differ from the archive, so the chunk stays. gone: did not exist.
DropOutcome = Literal["dropped", "changed", "gone"]


def drop_archived(
    connection: psycopg.Connection,
    table: Table,
    chunk: Chunk,
    manifest: Manifest,
    root: ArchiveRoot,
    size: int | None = None,
) -> DropOutcome:
    """Verify the archive, compare the chunk of `table` with it under a lock, and drop it, in one transaction.

    A chunk with rows or columns that the archive lacks is kept: archive it again. Older archives whose rows are all in
    this one are removed. Writers go first: they wait at most while the rows of one day are compared, and cannot end in
    a deadlock with this. `size`: bytes of the chunk, for the record. Raises `BadArchive` or `psycopg.Error` with
    nothing dropped, and `Transient` if the chunk stayed in use.
    """
    doing = f"drop {chunk.schema}.{chunk.table}"
    here = (archive_folder(table), chunk.range_start, chunk.range_end)
    if here != (manifest.hypertable, manifest.chunk.range_start, manifest.chunk.range_end):
        raise Terminal(
            f"{doing}: expected an archive of this chunk's range, found {manifest.name}; nothing was dropped;"
            " archive the chunk first"
        )
    supersede(connection, table, chunk, manifest, root)
    try:
        with translate_errors(doing, root):
            outcome = retry_on_contention(
                connection, lambda: _drop_if_same(connection, table, chunk, manifest, root, size)
            )
    except ChunkGone:
        outcome = "gone"
    except ChunkBusy:
        raise Transient(
            f"{doing}: it was in use at each of several attempts; it is archived and nothing was dropped; the next run"
            " tries again"
        ) from None
    emit(StepReached(manifest.name, outcome))
    return outcome


def _drop_if_same(
    connection: psycopg.Connection, table: Table, chunk: Chunk, manifest: Manifest, root: ArchiveRoot, size: int | None
) -> DropOutcome:
    name = manifest.name
    # Each statement sees what was committed before it started: once the chunk is locked, all its rows.
    connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    lock_archives(connection, table, chunk)
    if load_manifest(root, name) != manifest:  # from here on no other run changes the archives of this chunk
        raise BadArchive(
            f"archive {name}: expected the manifest that was verified, found another one; {DAMAGED_ADVICE}"
        )
    block_writers(connection, chunk)
    if shape_of(manifest.columns) != chunk_shape(connection, chunk):
        return "changed"
    emit(StepReached(name, "locked"))
    for start, stop, expected in _slices(chunk, manifest):
        found = sum_contents(server_content(connection, table, start, stop, manifest.columns).values())
        if (found.rows, found.hash) != expected:
            return "changed"
        yield_to_writers(connection, chunk)
    emit(StepReached(name, "compared"))
    drop_and_record(connection, table, chunk, manifest.rows, size, "archive")
    emit(StepReached(name, "dropping"))
    return "dropped"


def _slices(chunk: Chunk, manifest: Manifest) -> Iterator[tuple[datetime, datetime, tuple[int, str]]]:
    """The range of a chunk in parts, each a day with rows or a gap, with the expected number of rows and hash."""
    at, nothing = chunk.range_start, (0, Content().hash)
    for file in manifest.files:
        start, stop = day_bounds(chunk, file.day)
        if at < start:
            yield at, start, nothing
        yield start, stop, (file.rows, file.content_hash)
        at = stop
    if at < chunk.range_end:
        yield at, chunk.range_end, nothing
