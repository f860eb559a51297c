"""The rows of an archive as Spillway reads them, compared with the table and with what pandas reads."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import Manifest
from tasks.archive.verify import read_archive, verify
from tests.support.archives import Event, content_hash, rows_by_pandas, rows_in_order


def restored(root: ArchiveRoot, manifest: Manifest) -> list[Event]:
    """The rows that `read_archive` gives, in its order."""
    return [
        (row["time"], str(row["event_id"]), row["event_type"], row["user_id"], row["properties"])
        for batch in read_archive(root, manifest)
        for row in batch.to_pylist()
    ]


def assert_holds_table(connection: psycopg.Connection, root: ArchiveRoot, manifest: Manifest) -> None:
    """The archive holds every row of the table, with identical text; its counts, times and hash are right."""
    rows = rows_in_order(connection)
    assert rows_by_pandas(Path(root.base), [manifest]) == rows
    assert restored(root, manifest) == rows
    times = [row[0] for row in rows]
    assert (manifest.rows, manifest.min_time, manifest.max_time) == (len(rows), min(times), max(times))
    assert manifest.content_hash == content_hash(rows)
    verify(root, manifest)
