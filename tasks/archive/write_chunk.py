"""Write the rows of a chunk to Parquet files, all from one snapshot, and the manifest last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import LiteralString

import psycopg
import pyarrow.parquet as pq
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.errors.exceptions import Terminal
from infra.tables.read_table import is_default
from infra.tables.statements import parameter_safe
from infra.tables.table import Table
from infra.tables.time_sql import time_bound, time_column
from tasks.archive.archive_lock import lock_archives
from tasks.archive.archive_root import ArchiveRoot, translate_errors
from tasks.archive.chunk_columns import read_columns
from tasks.archive.content_hash import Content, day_bounds, server_content, sum_contents
from tasks.archive.copied_rows import copied_rows, decode_rows
from tasks.archive.manifest import (
    EVENTS_ORDER,
    WRITING,
    ArchivedFile,
    BadArchive,
    Manifest,
    archive_name,
    archive_names,
    data_files,
    load_manifest,
    manifest_path,
    range_name,
    writing_path,
)
from tasks.archive.verify import verify
from tasks.base.progress import StepReached, emit
from tasks.columns.column_forms import select_list
from tasks.files.archive_paths import data_path
from tasks.maintain.contention import lock
from tasks.table.chunks import Chunk

# Readers skip or read whole row groups, some minutes of a busy day each. While one is written, its rows, columns and
# compressed pages are in memory, about five times its size.
_GROUP_ROWS = 50_000
_GROUP_BYTES = 32 * 1024 * 1024

_COPY_DAY: LiteralString = """
    COPY (SELECT {values} FROM {table} AS e WHERE {time} >= {bound} AND {time} < {bound}
           ORDER BY {order}) TO STDOUT (FORMAT BINARY)"""


def archive_chunk(connection: psycopg.Connection, table: Table, chunk: Chunk, root: ArchiveRoot) -> Manifest:
    """Archive all rows of `chunk` of `table` in one snapshot below `root`. Returns the manifest, which is written last.

    At most one row group is in memory. If the same rows of the same range are already archived, nothing is written.
    Files of killed runs for this chunk are removed. Raises `ChunkGone` if the chunk does not exist, `Transient` if
    another run archives it or the file system may answer later, otherwise `Terminal` or `psycopg.Error`; then nothing
    counts as archived.
    """
    doing = f"archive {chunk.schema}.{chunk.table}"
    with translate_errors(doing, root), connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # The server waits while files are closed, moved and read back.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '1h'")
        # Before the snapshot, which LOCK does not take: compression in between would move the rows out of the chunk.
        lock(connection, chunk, "ACCESS SHARE MODE")
        lock_archives(connection, table, chunk)
        columns = read_columns(connection, table, chunk, doing)
        days = server_content(connection, table, chunk.range_start, chunk.range_end, columns)
        content = sum_contents(days.values())
        name = archive_name(chunk, content.hash, columns)
        emit(StepReached(name, "counted"))
        _clean(root, chunk)
        emit(StepReached(name, "cleaned"))
        if (there := _whole(root, name)) is not None:
            return there
        manifest = Manifest(
            chunk,
            content.rows,
            content.min_time,
            content.max_time,
            content.hash,
            files=(),
            archived_at=datetime.now(UTC),
            hypertable=root.folder,
            columns=columns,
            table="" if is_default(table) else table.regclass,
            order=row_order(table),
        )
        files = [_write_day(connection, table, root, manifest, day, expected) for day, expected in days.items()]
        manifest = replace(manifest, files=tuple(files), archived_at=datetime.now(UTC))
        _publish(root, manifest)
        return manifest


def row_order(table: Table) -> tuple[str, ...]:
    """The columns that archived rows of a table are sorted by: the time, and the others of its key."""
    if is_default(table):
        return EVENTS_ORDER
    time = table.time or ""
    return (time, *(name for name in exact_key(table) if name != time))


def exact_key(table: Table) -> tuple[str, ...]:
    """The columns of a unique key without nulls, which would let rows repeat; empty if there is none."""
    keys = (key for key in table.keys if not any(table.by_name[name].nullable for name in key))
    return next(keys, ())


def _whole(root: ArchiveRoot, name: str) -> Manifest | None:
    """The archive of that name if it exists and is undamaged. The manifest of a damaged one is removed."""
    if name not in archive_names(root):
        return None
    try:
        manifest = load_manifest(root, name)
        verify(root, manifest)
    except BadArchive:
        root.remove(manifest_path(root.folder, name))
        return None
    return manifest


def _clean(root: ArchiveRoot, chunk: Chunk) -> None:
    """Remove files that killed runs left for this chunk: those that no manifest lists."""
    mine, listed = range_name(chunk) + "_", set(archive_names(root))
    for folder in root.folders(f"{root.folder}/{WRITING}"):
        if folder.startswith(mine):
            root.remove_folder(writing_path(root.folder, folder))
    for path in data_files(root, chunk):
        if path.rpartition("/")[2].removesuffix(".parquet") not in listed:
            root.remove(path)


def _write_day(
    connection: psycopg.Connection, table: Table, root: ArchiveRoot, manifest: Manifest, day: date, expected: Content
) -> ArchivedFile:
    """Write the rows of one day to the `_writing` folder. Raises `Terminal` if COPY and the count differ."""
    name, columns, chunk = manifest.name, manifest.columns, manifest.chunk
    writing = writing_path(root.folder, name)
    aside = f"{writing}/{day.isoformat()}.parquet"
    root.make_folder(writing)
    emit(StepReached(name, f"writing {day}"))
    written = 0
    order = (sql.SQL("e.{}").format(parameter_safe(sql.Identifier(column))) for column in manifest.order)
    copy_day = sql.SQL(_COPY_DAY).format(
        values=select_list(columns, "e"),
        table=parameter_safe(table.identifier),
        time=time_column(table, "e"),
        bound=time_bound(table),
        order=sql.SQL(", ").join(order),
    )
    plain_encoded = {*manifest.order, *(column.name for column in columns if column.form == "jsonb")}
    with (
        fixed_texts(connection),
        connection.cursor().copy(copy_day, day_bounds(chunk, day)) as copy,
        root.open_output(aside) as out,
        pq.ParquetWriter(
            out,
            manifest.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=[column.name for column in columns if column.name not in plain_encoded],
            column_encoding={manifest.time: "DELTA_BINARY_PACKED"},
            sorting_columns=[pq.SortingColumn([column.name for column in columns].index(manifest.time))],
            write_page_index=True,
        ) as writer,
    ):
        for rows in _groups(copied_rows(copy)):
            writer.write_batch(decode_rows(rows, columns, manifest.never_null), row_group_size=_GROUP_ROWS)
            written += len(rows)
    if written != expected.rows:
        raise Terminal(
            f"archive {name}: {day}: expected the {expected.rows} rows counted in the snapshot, found {written} copied;"
            " nothing was archived; run `spillway maintain` again"
        )
    root.sync(aside)
    emit(StepReached(name, f"written {day}"))
    size, sha256 = root.fingerprint(aside)
    return ArchivedFile(data_path(root.folder, day, name), day, written, size, sha256, expected.hash)


def _groups(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row)
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _publish(root: ArchiveRoot, manifest: Manifest) -> None:
    """Move the files to their paths, then the manifest: from that moment the archive exists."""
    name = manifest.name
    writing = writing_path(root.folder, name)
    for file in manifest.files:
        root.make_folder(file.path.rpartition("/")[0])
        root.move(f"{writing}/{file.day.isoformat()}.parquet", file.path)
        emit(StepReached(name, f"moved {file.day}"))
    aside = f"{writing}/manifest.json"
    root.make_folder(writing)
    root.write(aside, manifest.to_json())
    emit(StepReached(name, "manifest written"))
    path = manifest_path(root.folder, name)
    root.make_folder(path.rpartition("/")[0])
    root.move(aside, path)
    emit(StepReached(name, "archived"))
    root.remove_folder(writing)
    emit(StepReached(name, "tidied"))
