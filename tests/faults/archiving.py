"""Archives and drops all chunks, in a process that kills itself:  python -m tests.faults.archiving URL FOLDER STEP

Each step that is reached is a line of standard output. At the one of that name it ends by SIGKILL.
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

WAIT_SECONDS = 30  # for the backend of a process that was killed


def archive_and_drop(connection: psycopg.Connection, chunk: Chunk, root: ArchiveRoot) -> None:
    """What a flow does: archive a chunk and drop it, again where rows came in between, or another is still at it."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            if drop_archived(connection, chunk, archive_chunk(connection, chunk, root), root) != "changed":
                return
        except Transient:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def archive_and_drop_all(connection: psycopg.Connection, root: ArchiveRoot) -> None:
    """The same of all chunks."""
    for chunk in chunks(connection):
        archive_and_drop(connection, chunk, root)


def main(url: str, folder: str, step: str) -> None:
    """Kill this process at `step`."""

    def reached(news: ProgressEvent) -> None:
        if isinstance(news, StepReached):
            print(news.step, flush=True)
            if news.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    with psycopg.connect(url, autocommit=True) as connection, subscribe(reached):
        archive_and_drop_all(connection, open_root(folder))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
