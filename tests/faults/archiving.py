"""Archive and drop all chunks, in a process that kills itself:  python -m tests.faults.archiving URL FOLDER STEP

Prints a line for each step that it reaches. Kills itself with SIGKILL at STEP.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import psycopg

from infra.errors.exceptions import Transient
from tasks.archive.archive_root import ArchiveRoot, open_root
from tasks.archive.drop_archived import drop_archived
from tasks.archive.write_chunk import archive_chunk
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tasks.table.chunks import Chunk
from tests.support.archives import chunks
from tests.support.default_table import default_table

WAIT_SECONDS = 120  # for the backend of a killed process


def archive_and_drop(connection: psycopg.Connection, chunk: Chunk, root: ArchiveRoot) -> None:
    """Archive a chunk and drop it, as the flow does: again if rows arrive or another run works on it."""
    deadline, table = time.monotonic() + WAIT_SECONDS, default_table(connection)
    while True:
        try:
            manifest = archive_chunk(connection, table, chunk, root)
            if drop_archived(connection, table, chunk, manifest, root) != "changed":
                return
        except Transient:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def archive_and_drop_all(connection: psycopg.Connection, root: ArchiveRoot) -> None:
    """`archive_and_drop` for all chunks."""
    for chunk in chunks(connection):
        archive_and_drop(connection, chunk, root)


def main(url: str, folder: str, step: str) -> None:
    """Archive and drop all chunks, and kill this process at `step`."""

    def reached(progress: ProgressEvent) -> None:
        if isinstance(progress, StepReached):
            print(progress.step, flush=True)
            if progress.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    with psycopg.connect(url, autocommit=True) as connection, subscribe(reached):
        archive_and_drop_all(connection, open_root(folder))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
