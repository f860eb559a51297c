"""An archive holds the rows of its chunk as they were at one moment, and its manifest describes them."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow.parquet as pq
import pytest

from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import load_manifest
from tasks.archive.verify import read_archive, verify
from tasks.archive.write_chunk import archive_chunk
from tests.support.archives import (
    MICROSECOND,
    THURSDAY,
    as_rows,
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
from tests.support.oracle import table_rows
from tests.support.restored_rows import assert_holds_table
from tests.support.servers import Servers


def test_pandas_reads_what_the_table_holds(database: psycopg.Connection, root: ArchiveRoot) -> None:
    events = awkward_events()
    insert_events(database, events)
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert_holds_table(database, root, manifest)
    assert as_rows(rows_by_pandas(Path(root.base), [manifest])) == table_rows(database)
    assert len(rows_in_order(database)) == len(events)


def test_a_compressed_chunk_with_late_rows_is_archived_like_any_other(
    servers: Servers, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    if servers.edition != "Community":
        pytest.skip("compression needs the Community edition")
    events = awkward_events()
    with compressible(database):
        insert_events(database, events[5:])
        compress(database, only_chunk(database))
        insert_events(database, events[:5])
        manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
        assert_holds_table(database, root, manifest)
        assert manifest.rows == len(events)


def test_an_archive_holds_only_the_rows_of_its_chunk(database: psycopg.Connection, root: ArchiveRoot) -> None:
    neighbours = [event(1, THURSDAY - MICROSECOND), event(2, THURSDAY + timedelta(days=7))]
    mine = [event(3, THURSDAY), event(4, THURSDAY + timedelta(days=7) - MICROSECOND)]
    insert_events(database, [*neighbours, *mine])
    manifest = archive_chunk(database, default_table(database), chunks(database)[1], root)
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
def test_a_chunk_of_any_year_is_archived(moment: datetime, database: psycopg.Connection, root: ArchiveRoot) -> None:
    insert_events(database, [event(1, moment)])
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert [file.day for file in manifest.files] == [moment.date()]
    assert_holds_table(database, root, manifest)
    assert load_manifest(root, manifest.name) == manifest


def test_the_settings_of_the_callers_session_do_not_matter(database: psycopg.Connection, root: ArchiveRoot) -> None:
    """The time zone, the encoding, and the format of numbers, dates and bytes."""
    insert_events(database, awkward_events())
    chunk = only_chunk(database)
    for setting in ("TimeZone = 'Pacific/Kiritimati'", "client_encoding = 'LATIN1'", "DateStyle = 'German'",
                    "bytea_output = 'escape'", "extra_float_digits = -5"):  # fmt: skip
        database.execute(f"SET {setting}")
    manifest = archive_chunk(database, default_table(database), chunk, root)
    database.execute("RESET ALL")
    assert_holds_table(database, root, manifest)


def test_a_file_holds_one_day_sorted_by_time_in_row_groups_that_readers_can_skip(
    database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    database.execute(
        "INSERT INTO events SELECT %s + i * interval '1 s', gen_random_uuid(), 't', 'u'"
        " FROM generate_series(0, 119999) i",
        [THURSDAY],
    )
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
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
    # Any reader of partitioned folders sees the rows, and not Spillway's own files next to them.
    frame = pd.read_parquet(folder / "events", filters=[("day", "=", "2024-01-05")])
    assert len(frame) == 33_600
    assert set(frame["day"].astype(str)) == {"2024-01-05"}
    assert frame["time"].is_monotonic_increasing


def test_an_empty_chunk_is_a_manifest_without_files(database: psycopg.Connection, root: ArchiveRoot) -> None:
    insert_events(database, plain_events(10))
    database.execute("DELETE FROM events")
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    assert (manifest.rows, manifest.files, manifest.min_time) == (0, (), None)
    verify(root, manifest)
    assert list(read_archive(root, manifest)) == []


def test_only_the_owner_may_read_the_files(database: psycopg.Connection, root: ArchiveRoot, folder: Path) -> None:
    """Whatever the umask: they have the rows of a table that not everybody may read."""
    insert_events(database, plain_events(10))
    before = os.umask(0)
    try:
        archive_chunk(database, default_table(database), only_chunk(database), root)
    finally:
        os.umask(before)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".parquet", ".json"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_manifest_is_plain_json(database: psycopg.Connection, root: ArchiveRoot, folder: Path) -> None:
    insert_events(database, plain_events(30))
    chunk = only_chunk(database)
    manifest = archive_chunk(database, default_table(database), chunk, root)
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
