"""Archives of a user's tables: each in a folder of its own, in the order of its time and key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest

from infra.errors.exceptions import Terminal
from infra.tables.table import Table, TableKind
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.drop_archived import drop_archived
from tasks.archive.due import to_archive
from tasks.archive.manifest import BadArchive, archive_names, archived_folders, load_manifest, manifest_path
from tasks.archive.supersede import supersede
from tasks.archive.verify import unlisted_files, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.files.archive_paths import archive_folder, is_archived
from tasks.table.chunks import Chunk, chunks
from tests.support.other_tables import TIMES, add_row, delete_row, dump, fill, make_table

Alter = Callable[[str], None]


def root_of(root: ArchiveRoot, table: Table) -> ArchiveRoot:
    return replace(root, folder=archive_folder(table))


def first_chunk(connection: psycopg.Connection, table: Table) -> Chunk:
    return next(iter(chunks(connection, table)))


@pytest.fixture(params=[(time, key) for time in TIMES for key in (True, False)], ids=str)
def table(request: pytest.FixtureRequest, alter: Alter, database: psycopg.Connection) -> Table:
    """A chunk of 28 rows and one of 2, with or without a key."""
    time, key = request.param
    made = make_table(database, time, key=key)
    fill(database, made, range(30))
    return made


@pytest.mark.parametrize(
    ("schema", "name", "folder"),
    [
        ("public", "weather", "public.weather"),
        ("public", "events", "events"),
        ("other", "events", "other.events"),
        ("_s", "a.b/c", "%5Fs.a%2Eb%2Fc"),
        ("s", 'ü "x" %', "s.%C3%BC%20%22x%22%20%25"),
    ],
)
def test_the_folder_of_a_table_is_one_name_that_readers_do_not_skip(schema: str, name: str, folder: str) -> None:
    table = Table(schema, name, TableKind.HYPERTABLE, ())
    assert archive_folder(table) == folder
    assert is_archived(f"s3://bucket/x/{folder}/day=2024-01-04/20240104T000000Z_20240111T000000Z_0a.parquet")


def test_an_archive_names_its_table_and_is_sorted_by_time_and_key(
    table: Table, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    mine, chunk = root_of(root, table), first_chunk(database, table)
    manifest = archive_chunk(database, table, chunk, mine)
    plain = json.loads((folder / manifest_path(mine.folder, manifest.name)).read_text())
    order = ["at %s", "Ort"] if table.keys else ["at %s"]
    assert (plain["format"], plain["table"], plain["order"], plain["rows"]) == (3, table.regclass, order, 28)
    assert (load_manifest(mine, manifest.name), archived_folders(root)) == (manifest, [mine.folder])
    rows = [row for file in manifest.files for row in pq.read_table(folder / file.path).to_pylist()]
    assert [row["n"] for row in sorted(rows, key=lambda row: row["n"])] == list(range(28))
    assert [row["at %s"] for row in rows] == sorted(row["at %s"] for row in rows)
    assert archive_chunk(database, table, chunk, mine) == manifest  # nothing changed
    assert to_archive(database, table, mine, timedelta(days=1)) == list(chunks(database, table))[1:]
    assert drop_archived(database, table, chunk, manifest, mine) == "dropped"
    assert len(dump(database, table)) == 2
    assert unlisted_files(mine, [manifest]) == []


def test_an_older_archive_is_removed_if_all_its_rows_are_in_the_later_one(
    table: Table, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    mine, chunk = root_of(root, table), first_chunk(database, table)
    first = archive_chunk(database, table, chunk, mine)
    add_row(database, table, 99)
    second = archive_chunk(database, table, chunk, mine)
    supersede(database, table, chunk, second, mine)
    assert archive_names(mine) == [second.name]
    delete_row(database, table, 5)
    third = archive_chunk(database, table, chunk, mine)
    supersede(database, table, chunk, third, mine)
    assert set(archive_names(mine)) == {second.name, third.name}
    assert drop_archived(database, table, chunk, second, mine) == "changed"
    assert first.name not in archive_names(mine)


def test_equal_rows_without_a_key_are_counted(alter: Alter, database: psycopg.Connection, root: ArchiveRoot) -> None:
    """Every row has the same time, and the server returns them in any order."""
    table = make_table(database, "date", key=False)
    mine = root_of(root, table)

    def add(*numbers: int) -> None:
        for n in numbers:
            add_row(database, table, n)

    add(1, 2, 2)
    chunk = first_chunk(database, table)
    first = archive_chunk(database, table, chunk, mine)
    database.execute(f"DELETE FROM {table.regclass}".encode())
    add(2, 3, 1)
    second = archive_chunk(database, table, chunk, mine)
    supersede(database, table, chunk, second, mine)
    assert set(archive_names(mine)) == {first.name, second.name}  # one row with 2 is missing
    add(2)
    third = archive_chunk(database, table, chunk, mine)
    supersede(database, table, chunk, third, mine)
    assert archive_names(mine) == [third.name]
    verify(mine, third)


def test_the_archive_of_another_table_with_the_same_range_drops_and_restores_nothing(
    alter: Alter, database: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    tables = [make_table(database, "timestamptz", name=name) for name in ("users.one", "users.other")]
    for table in tables:
        fill(database, table, range(10))
    one, other = tables
    chunk = first_chunk(database, other)
    manifests = [archive_chunk(database, table, first_chunk(database, table), root_of(root, table)) for table in tables]
    assert manifests[0].name == manifests[1].name
    with pytest.raises(Terminal, match="expected an archive of this chunk's range"):
        drop_archived(database, other, chunk, manifests[0], root_of(root, one))
    assert len(dump(database, other)) == 10
    path = folder / manifest_path("users.other", manifests[1].name)
    shutil.copy(folder / manifest_path("users.one", manifests[0].name), path)
    with pytest.raises(BadArchive, match=r"expected an archive of users\.other, found one of users\.one"):
        load_manifest(root_of(root, other), manifests[1].name)
