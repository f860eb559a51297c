"""An archive holds the rows of its chunk as they were at one moment, and says so itself."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest

from infra.errors.exceptions import Transient
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import Manifest, archive_names, load_manifest
from tasks.archive.verify import read_archive, unlisted_files, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tests.support.archives import (
    MICROSECOND,
    THURSDAY,
    as_rows,
    awkward_events,
    chunks,
    compress,
    compressible,
    content_hash,
    event,
    insert_events,
    only_chunk,
    plain_events,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.oracle import table_rows
from tests.support.restored_rows import restored
from tests.support.servers import Servers


def holds_the_table(connection: psycopg.Connection, root: ArchiveRoot, manifest: Manifest) -> None:
    """Every row of the table is in the archive, with the same text to the byte; counts, times and hash are right."""
    rows = rows_in_order(connection)
    assert rows_by_pandas(Path(root.base), [manifest]) == rows
    assert restored(root, manifest) == rows
    times = [row[0] for row in rows]
    assert (manifest.rows, manifest.min_time, manifest.max_time) == (len(rows), min(times), max(times))
    assert manifest.content_hash == content_hash(rows)
    verify(root, manifest)


def test_what_pandas_reads_is_what_the_table_has(database: psycopg.Connection, root: ArchiveRoot) -> None:
    events = awkward_events()
    insert_events(database, events)
    manifest = archive_chunk(database, only_chunk(database), root)
    holds_the_table(database, root, manifest)
    assert as_rows(rows_by_pandas(Path(root.base), [manifest])) == table_rows(database)
    assert len(rows_in_order(database)) == len(events)


def test_a_compressed_chunk_with_late_rows_is_archived_as_any_other(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    if servers.edition != "Community":
        pytest.skip("compression needs the Community edition")
    events = awkward_events()
    with compressible(database):
        insert_events(database, events[5:])
        compress(database, only_chunk(database))
        insert_events(database, events[:5])
        manifest = archive_chunk(database, only_chunk(database), root)
        holds_the_table(database, root, manifest)
        assert manifest.rows == len(events)


def test_only_the_rows_of_the_chunk_are_in_it(database: psycopg.Connection, root: ArchiveRoot) -> None:
    neighbours = [event(1, THURSDAY - MICROSECOND), event(2, THURSDAY + timedelta(days=7))]
    mine = [event(3, THURSDAY), event(4, THURSDAY + timedelta(days=7) - MICROSECOND)]
    insert_events(database, [*neighbours, *mine])
    manifest = archive_chunk(database, chunks(database)[1], root)
    assert rows_by_pandas(Path(root.base), [manifest]) == mine


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 10, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 20, 23, 59, 59, 999_999, UTC),
    ],
)
def test_a_chunk_of_any_year_that_a_date_can_have(
    moment: datetime, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, [event(1, moment)])
    manifest = archive_chunk(database, only_chunk(database), root)
    assert [file.day for file in manifest.files] == [moment.date()]
    holds_the_table(database, root, manifest)
    assert load_manifest(root, manifest.name) == manifest


def test_the_session_of_the_caller_does_not_matter(database: psycopg.Connection, root: ArchiveRoot) -> None:
    """Neither its time zone, nor its encoding, nor how it shows numbers, dates and bytes."""
    insert_events(database, awkward_events())
    chunk = only_chunk(database)
    for setting in ("TimeZone = 'Pacific/Kiritimati'", "client_encoding = 'LATIN1'", "DateStyle = 'German'",
                    "bytea_output = 'escape'", "extra_float_digits = -5"):  # fmt: skip
        database.execute(f"SET {setting}")
    manifest = archive_chunk(database, chunk, root)
    database.execute("RESET ALL")
    holds_the_table(database, root, manifest)


def test_files_are_of_one_day_sorted_by_time_in_zstd_and_pruned_by_row_group(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    database.execute(
        "INSERT INTO events SELECT %s + i * interval '1 s', gen_random_uuid(), 't', 'u'"
        " FROM generate_series(0, 119999) i",
        [THURSDAY],
    )
    manifest = archive_chunk(database, only_chunk(database), root)
    assert [(file.day, file.rows) for file in manifest.files] == [
        (date(2024, 1, 4), 86_400),
        (date(2024, 1, 5), 33_600),
    ]
    found = pq.ParquetFile(folder / manifest.files[0].path).metadata
    groups = [found.row_group(n) for n in range(found.num_row_groups)]
    assert [group.num_rows for group in groups] == [50_000, 36_400]
    assert {group.column(n).compression for group in groups for n in range(5)} == {"ZSTD"}
    spans = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
    assert spans[0][1] < spans[1][0]
    # Any reader of such folders sees the rows and not what Spillway keeps beside them.
    frame = pd.read_parquet(folder / "events", filters=[("day", "=", "2024-01-05")])
    assert len(frame) == 33_600
    assert set(frame["day"].astype(str)) == {"2024-01-05"}
    assert frame["time"].is_monotonic_increasing


def test_rows_that_come_after_the_count_are_not_in_the_files(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(500))
    before = rows_in_order(database)

    def come(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step in ("counted", "written 2024-01-06"):
            with psycopg.connect(servers.settings.database) as other:
                insert_events(
                    other,
                    plain_events(100, THURSDAY + MICROSECOND, first=1_000_000 if news.step == "counted" else 2_000_000),
                )

    with subscribe(come):
        manifest = archive_chunk(database, only_chunk(database), root)
    assert len(rows_in_order(database)) == 700
    assert rows_by_pandas(Path(root.base), [manifest]) == before
    verify(root, manifest)


def test_the_same_rows_again_have_the_same_name_and_are_not_written_again(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    chunk = only_chunk(database)
    first = archive_chunk(database, chunk, root)
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert archive_chunk(database, chunk, root) == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == written
    # Even where they come in another order, into another chunk of the same range.
    rows = rows_in_order(database)
    database.execute("TRUNCATE events")
    insert_events(database, reversed(rows))
    assert only_chunk(database).table != chunk.table
    assert archive_chunk(database, only_chunk(database), root).name == first.name


def test_a_damaged_archive_is_written_anew_while_the_rows_are_there(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    first = archive_chunk(database, only_chunk(database), root)
    os.truncate(folder / first.files[2].path, 100)
    again = archive_chunk(database, only_chunk(database), root)
    assert again.name == first.name
    holds_the_table(database, root, again)


def test_late_rows_after_the_drop_have_an_archive_of_their_own_beside_the_older_one(
    database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(300))
    first, old = archive_chunk(database, only_chunk(database), root), rows_in_order(database)
    database.execute("TRUNCATE events")
    insert_events(database, plain_events(20, first=1_000))
    second, late = archive_chunk(database, only_chunk(database), root), rows_in_order(database)
    assert archive_names(root) == sorted([first.name, second.name])
    for manifest, rows in ((first, old), (second, late)):
        verify(root, manifest)
        assert restored(root, manifest) == rows


def test_a_chunk_without_rows_is_a_manifest_without_files(database: psycopg.Connection, root: ArchiveRoot) -> None:
    insert_events(database, plain_events(10))
    database.execute("DELETE FROM events")
    manifest = archive_chunk(database, only_chunk(database), root)
    assert (manifest.rows, manifest.files, manifest.min_time) == (0, (), None)
    verify(root, manifest)
    assert list(read_archive(root, manifest)) == []


@pytest.mark.parametrize("step", ["writing 2024-01-06", "moved 2024-01-06", "manifest written"])
def test_what_a_broken_run_left_is_no_archive_and_is_removed_by_the_next(
    step: str, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(300))
    chunk = only_chunk(database)

    def stop(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == step:
            raise KeyboardInterrupt

    with subscribe(stop), pytest.raises(KeyboardInterrupt):
        archive_chunk(database, chunk, root)
    assert archive_names(root) == []
    assert unlisted_files(root, []) != []
    insert_events(database, plain_events(10, first=5_000))  # so that the next one has another name
    manifest = archive_chunk(database, chunk, root)
    holds_the_table(database, root, manifest)
    assert unlisted_files(root, [manifest]) == []
    assert list((folder / "events" / "_writing").iterdir()) == []


def test_two_runs_do_not_archive_one_chunk_at_the_same_time(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    insert_events(database, plain_events(50))
    chunk, met = only_chunk(database), []

    def again(news: ProgressEvent) -> None:
        if isinstance(news, StepReached) and news.step == "counted":
            with (
                psycopg.connect(servers.settings.database, autocommit=True) as other,
                pytest.raises(Transient) as error,
            ):
                archive_chunk(other, chunk, root)
            met.append(str(error.value))

    with subscribe(again):
        holds_the_table(database, root, archive_chunk(database, chunk, root))
    (said,) = met
    assert "another run is at it" in said


def test_the_manifest_is_json_that_others_can_read(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    insert_events(database, plain_events(30))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, chunk, root)
    found = json.loads((folder / "events/_manifests" / f"{manifest.name}.json").read_text())
    assert (found["format"], found["hypertable"], found["rows"]) == (1, "events", 30)
    assert found["chunk"] == {
        "schema": chunk.schema,
        "table": chunk.table,
        "range_start": "2024-01-04T00:00:00+00:00",
        "range_end": "2024-01-11T00:00:00+00:00",
    }
    for file in found["files"]:
        assert (folder / file["path"]).stat().st_size == file["bytes"]
