"""Remove archives that a later archive of the same chunk contains, after rows arrived between archive and drop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import psycopg

from infra.tables.table import Table
from tasks.archive.archive_lock import lock_archives
from tasks.archive.archive_root import ArchiveRoot, translate_errors
from tasks.archive.copied_rows import row_hashes, time_us
from tasks.archive.manifest import (
    ArchivedFile,
    BadArchive,
    Manifest,
    archive_names,
    load_manifest,
    manifest_path,
    range_name,
)
from tasks.archive.verify import read_file, verify
from tasks.base.progress import StepReached, emit
from tasks.columns.column_forms import Column
from tasks.table.chunks import Chunk


def supersede(
    connection: psycopg.Connection, table: Table, chunk: Chunk, manifest: Manifest, root: ArchiveRoot
) -> None:
    """Verify an archive of `chunk` of `table`, and remove the older archives that it contains.

    Raises `BadArchive`, `Transient` if another run is working on the chunk, and `psycopg.Error`.
    """
    verify(root, manifest)
    emit(StepReached(manifest.name, "verified"))
    with translate_errors(f"archive {manifest.name}", root), connection.transaction():
        connection.execute(
            "SET LOCAL idle_in_transaction_session_timeout = '1h'"
        )  # the server waits while we read files
        lock_archives(connection, table, chunk)
        for _ in remove_contained(root, manifest):
            emit(StepReached(manifest.name, "removed"))


def remove_contained(root: ArchiveRoot, manifest: Manifest) -> list[str]:
    """Remove every other archive of the same range whose rows are all in this one. Returns the removed names.

    Only the content decides: no name and no time shows whether the rows of an older archive are still in the table or
    were dropped. A damaged archive stays for a person to look at. The archive must be verified, and the caller holds
    `lock_archives`.
    """
    removed = []
    for name in archive_names(root):
        if name == manifest.name or not name.startswith(f"{range_name(manifest.chunk)}_"):
            continue
        try:
            older = load_manifest(root, name)
            verify(root, older)
        except BadArchive:
            continue
        if contains(root, manifest, older):
            root.remove(manifest_path(root.folder, name))  # first: files that no manifest lists are harmless
            for file in older.files:
                root.remove(file.path)
            removed.append(name)
    return removed


def contains(root: ArchiveRoot, manifest: Manifest, other: Manifest) -> bool:
    """Whether the archive has every row of `other` with the same values; the archive may have further columns.

    Both are sorted, and one batch of each is in memory; of a table without a key, all rows with one time.
    """
    forms = {column.name: column.form for column in manifest.columns}
    if any(forms.get(column.name) != column.form for column in other.columns):
        return False
    mine = {file.day: file for file in manifest.files}
    for file in other.files:
        if file.day not in mine:
            return False
        whole = _rows(root, manifest, mine[file.day], other.columns)
        part = _rows(root, other, file, other.columns)
        has_key = len(other.order) > 1 and other.order == manifest.order
        # `in` consumes `whole` up to the row, so both are read once, in order.
        if not (all(row in whole for row in part) if has_key else _has_rows(whole, part)):
            return False
    return True


_Row = tuple[int, bytes]  # its time in microseconds since 1970, and its hash


def _rows(root: ArchiveRoot, manifest: Manifest, file: ArchivedFile, columns: Sequence[Column]) -> Iterator[_Row]:
    for batch in read_file(root, manifest, file):
        yield from zip(time_us(batch, manifest.time).tolist(), row_hashes(batch, columns), strict=True)


def _has_rows(whole: Iterator[_Row], part: Iterator[_Row]) -> bool:
    """Whether each row of `part` is in `whole`, as often as there. Both are sorted by time and not further."""
    groups = groupby(whole, key=itemgetter(0))
    for moment, rows in groupby(part, key=itemgetter(0)):
        there = next((found for time, found in groups if time >= moment), None)
        # The hashes of rows with another time differ too.
        if there is None or Counter(rows) - Counter(there):
            return False
    return True
