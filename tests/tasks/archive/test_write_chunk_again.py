"""A chunk that is archived again: unchanged, with other rows, after a crash, and by two runs at once."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from infra.errors.exceptions import Transient
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import archive_names
from tasks.archive.verify import unlisted_files, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tests.support.archives import (
    MICROSECOND,
    THURSDAY,
    insert_events,
    only_chunk,
    plain_events,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.default_table import default_table
from tests.support.restored_rows import assert_holds_table, restored
from tests.support.servers import Servers


def test_rows_inserted_during_archiving_are_not_in_the_archive(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(500))
    before = rows_in_order(database)

    def insert_more(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step in ("counted", "written 2024-01-06"):
            first = 1_000_000 if news.step == "counted" else 2_000_000
            with psycopg.connect(servers.settings.database) as other:
                insert_events(other, plain_events(100, THURSDAY + MICROSECOND, first=first))

    with subscribe(insert_more):
        manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert len(rows_in_order(database)) == 700
    assert rows_by_pandas(Path(root.base), [manifest]) == before
    verify(root, manifest)


def test_unchanged_rows_keep_their_archive_and_are_not_written_again(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    chunk = only_chunk(database)
    first = archive_chunk(database, default_table(database), chunk, root)
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert archive_chunk(database, default_table(database), chunk, root) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == written
    # Even if they are inserted in another order, into another chunk of the same range.
    rows = rows_in_order(database)
    database.execute("TRUNCATE events")
    insert_events(database, reversed(rows))
    assert only_chunk(database).table != chunk.table
    assert archive_chunk(database, default_table(database), only_chunk(database), root).name == first.name


def test_a_damaged_archive_is_written_again_while_its_rows_still_exist(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    first = archive_chunk(database, default_table(database), only_chunk(database), root)
    os.truncate(folder / first.files[2].path, 100)
    again = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert again.name == first.name
    assert_holds_table(database, root, again)


def test_late_rows_after_the_drop_get_a_second_archive(database: psycopg.Connection, root: ArchiveRoot) -> None:
    insert_events(database, plain_events(300))
    first, old = archive_chunk(database, default_table(database), only_chunk(database), root), rows_in_order(database)
    database.execute("TRUNCATE events")
    insert_events(database, plain_events(20, first=1_000))
    second, late = archive_chunk(database, default_table(database), only_chunk(database), root), rows_in_order(database)
    assert archive_names(root) == sorted([first.name, second.name])
    for manifest, rows in ((first, old), (second, late)):
        verify(root, manifest)
        assert restored(root, manifest) == rows


@pytest.mark.parametrize("step", ["writing 2024-01-06", "moved 2024-01-06", "manifest written"])
def test_files_of_an_interrupted_run_are_no_archive_and_the_next_run_removes_them(
    step: str, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    chunk = only_chunk(database)

    def stop(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == step:
            raise KeyboardInterrupt

    with subscribe(stop), pytest.raises(KeyboardInterrupt):
        archive_chunk(database, default_table(database), chunk, root)
    assert archive_names(root) == []
    assert unlisted_files(root, []) != []
    insert_events(database, plain_events(10, first=5_000))  # so that the next archive has another name
    manifest = archive_chunk(database, default_table(database), chunk, root)
    assert_holds_table(database, root, manifest)
    assert unlisted_files(root, [manifest]) == []
    assert list((folder / "events" / "_writing").iterdir()) == []


def test_a_second_run_that_archives_the_same_chunk_is_refused(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(50))
    chunk, refusals = only_chunk(database), []

    def again(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == "counted":
            with (
                psycopg.connect(servers.settings.database, autocommit=True) as other,
                pytest.raises(Transient) as error,
            ):
                archive_chunk(other, default_table(other), chunk, root)
            refusals.append(str(error.value))

    with subscribe(again):
        assert_holds_table(database, root, archive_chunk(database, default_table(database), chunk, root))
    (refusal,) = refusals
    assert "another run is working on its archives" in refusal
