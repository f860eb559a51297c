"""A chunk is dropped only as it is in its archive, and nobody who works on the table is harmed by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from infra.errors.exceptions import Terminal, Transient
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.drop_archived import drop_archived
from tasks.archive.manifest import archive_names
from tasks.archive.verify import unlisted_files, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tasks.maintain import contention
from tasks.table.chunks import Chunk
from tests.support.archives import (
    MICROSECOND,
    THURSDAY,
    awkward_events,
    chunks,
    compress,
    compressible,
    event,
    insert_events,
    only_chunk,
    plain_events,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.default_table import default_table
from tests.support.servers import Servers
from tests.support.waiting import wait_until

WEEK = timedelta(days=7)


@contextmanager
def session(servers: Servers) -> Iterator[psycopg.Connection]:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        yield connection


def test_only_the_archived_chunk_goes(database: psycopg.Connection, root: ArchiveRoot, folder: Path) -> None:
    neighbours = [event(1, THURSDAY - MICROSECOND), event(2, THURSDAY + WEEK)]
    insert_events(database, [*neighbours, *awkward_events()])
    before, chunk, rows = chunks(database)[0], chunks(database)[1], rows_in_order(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
    assert rows_in_order(database) == [rows[0], rows[-1]]
    assert before in chunks(database)
    assert chunk not in chunks(database)
    assert rows_by_pandas(folder, [manifest]) == rows[1:-1]


def test_a_compressed_chunk_goes_too_with_all_that_belongs_to_it(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    if servers.edition != "Community":
        pytest.skip("compression needs the Community edition")
    # Since 2.29 the compressed part of a chunk is named after the chunk.
    parts = r"SELECT count(*) FROM pg_class WHERE relname ~ '^compress_hyper_\d+_\d+_chunk$|_chunk_compressed$'"
    with compressible(database):
        before = database.execute(parts).fetchone()  # of tables of other tests
        insert_events(database, plain_events(500))
        compress(database, only_chunk(database))
        assert database.execute(parts).fetchone() != before
        insert_events(database, plain_events(10, first=1_000))
        manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
        assert drop_archived(database, default_table(database), only_chunk(database), manifest, root) == "dropped"
        assert rows_in_order(database) == []
        assert database.execute(parts).fetchone() == before


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO events VALUES ('2024-01-05 12:00Z', gen_random_uuid(), 'late', 'u', null)",
        "INSERT INTO events VALUES ('2024-01-10 23:59:59.999999Z', gen_random_uuid(), 'late', 'u', null)",
        "DELETE FROM events WHERE event_type = 'type-3'",
        "UPDATE events SET properties = 'null' WHERE event_type = 'type-3'",
        "UPDATE events SET user_id = event_type, event_type = user_id WHERE event_type = 'type-3'",
    ],
)
def test_a_chunk_that_changed_since_its_archive_is_kept_until_it_is_archived_again(
    change: str, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    # None on the last two days, so that a late row can have a day of its own.
    insert_events(database, plain_events(400, span=timedelta(days=5)))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    database.execute(change)
    rows = rows_in_order(database)
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "changed"
    assert rows_in_order(database) == rows
    again = archive_chunk(database, default_table(database), chunk, root)
    assert again.name != manifest.name
    assert drop_archived(database, default_table(database), chunk, again, root) == "dropped"
    assert chunks(database) == []
    assert rows_by_pandas(folder, [again]) == rows


def test_a_chunk_that_no_longer_exists_is_reported_as_gone(database: psycopg.Connection, root: ArchiveRoot) -> None:
    """So that a run which lost the answer to its commit can ask again."""
    insert_events(database, plain_events(50))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "gone"
    insert_events(database, plain_events(5))  # of the same range, in a new chunk
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "gone"
    assert len(rows_in_order(database)) == 5


def test_the_archive_of_another_range_drops_nothing(database: psycopg.Connection, root: ArchiveRoot) -> None:
    insert_events(database, [event(1, THURSDAY), event(2, THURSDAY + WEEK)])
    one, other = chunks(database)
    manifest = archive_chunk(database, default_table(database), one, root)
    with pytest.raises(Terminal, match="expected an archive of this chunk's range, found 2"):
        drop_archived(database, default_table(database), other, manifest, root)
    with pytest.raises(Terminal, match="only this chunk"):  # a range that is not that of the table
        drop_archived(
            database,
            default_table(database),
            Chunk(other.schema, other.table, one.range_start, one.range_end),
            manifest,
            root,
        )
    assert len(rows_in_order(database)) == 2


def test_who_reads_the_chunk_is_waited_for_and_at_last_left_alone(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_events(database, plain_events(50))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    monkeypatch.setattr(contention, "_ATTEMPTS", 2)
    monkeypatch.setattr(contention, "_ALONE_SECONDS", 0.3)
    with session(servers) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events")
        with pytest.raises(Transient, match="it was in use at each of several attempts"):
            drop_archived(database, default_table(database), chunk, manifest, root)
        monkeypatch.setattr(contention, "_ALONE_SECONDS", 600)
        ending = threading.Timer(0.5, reader.execute, ["COMMIT"])
        ending.start()
        assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
        ending.join()


@pytest.mark.parametrize("step", ["locked", "compared", "dropping"])
def test_whoever_wants_to_write_meanwhile_can_do_so_and_loses_nothing(
    step: str, servers: Servers, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    """At each step of the drop: it lets the writer go first, or the row goes into a chunk of its own afterwards."""
    insert_events(database, plain_events(400))
    chunk, rows = only_chunk(database), rows_in_order(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    writers: list[threading.Thread] = []
    failed: list[Exception] = []

    def write() -> None:
        try:
            with session(servers) as writer, writer.transaction():
                insert_events(writer, [event(90_000, THURSDAY + WEEK), event(90_001, THURSDAY + timedelta(hours=1))])
        except psycopg.Error as error:
            failed.append(error)

    def begin(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == step and not writers:
            writers.append(threading.Thread(target=write))
            writers[0].start()
            _await_lock(servers, writers[0])

    with subscribe(begin):
        outcome = drop_archived(database, default_table(database), chunk, manifest, root)
    writers[0].join()
    assert failed == []
    late = [row for row in rows_in_order(database) if row[1].endswith(("5f90", "5f91"))]
    assert len(late) == 2
    if outcome == "dropped":
        assert rows_in_order(database) == late
        assert rows_by_pandas(folder, [manifest]) == rows
    else:
        assert len(rows_in_order(database)) == len(rows) + 2


def _await_lock(servers: Servers, thread: threading.Thread) -> None:
    """Until somebody waits for a lock; the server may also let the writer through."""
    with session(servers) as watcher:
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
        wait_until(lambda: not thread.is_alive() or watcher.execute(waiting).fetchone(), every=0.005)


def test_a_second_drop_at_the_same_time_does_not_disturb_the_first(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(50))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)

    def again(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == "compared":
            with session(servers) as other, pytest.raises(Transient, match="another run is working on its archives"):
                drop_archived(other, default_table(other), chunk, manifest, root)

    with subscribe(again):
        assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"


def test_an_archive_whose_rows_are_all_in_the_later_one_is_removed(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    """Rows came between archiving and dropping, on old days and on a new one; nothing was dropped in between."""
    insert_events(database, plain_events(300, span=timedelta(days=3)))
    chunk = only_chunk(database)
    stale = archive_chunk(database, default_table(database), chunk, root)
    insert_events(database, plain_events(300, THURSDAY + MICROSECOND, first=5_000, span=timedelta(days=6)))
    rows = rows_in_order(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
    assert archive_names(root) == sorted([stale.name, manifest.name])
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
    assert archive_names(root) == [manifest.name]
    assert unlisted_files(root, [manifest]) == []
    assert rows_by_pandas(folder, [manifest]) == rows


@pytest.mark.parametrize(
    "lacking", ["DELETE FROM events WHERE event_id = %s", "UPDATE events SET user_id = '' WHERE event_id = %s"]
)
def test_an_archive_with_a_row_that_the_later_one_has_not_stays(
    lacking: str, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    chunk, rows = only_chunk(database), rows_in_order(database)
    older = archive_chunk(database, default_table(database), chunk, root)
    database.execute(lacking, [rows[-1][1]])
    later = rows_in_order(database)
    insert_events(database, plain_events(10, first=5_000))
    manifest = archive_chunk(database, default_table(database), chunk, root)
    assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
    assert archive_names(root) == sorted([older.name, manifest.name])
    verify(root, older)
    assert rows_by_pandas(folder, [older]) == rows
    assert len(rows_by_pandas(folder, [manifest])) == len(later) + 10
