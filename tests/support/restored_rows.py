"""The rows of an archive as Spillway reads them."""

from __future__ import annotations

from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import Manifest
from tasks.archive.verify import read_archive
from tests.support.archives import Event


def restored(root: ArchiveRoot, manifest: Manifest) -> list[Event]:
    """The rows that `read_archive` gives, in its order."""
    return [
        (row["time"], str(row["event_id"]), row["event_type"], row["user_id"], row["properties"])
        for batch in read_archive(root, manifest)
        for row in batch.to_pylist()
    ]
