"""No column is lost: an archive has all columns of its chunk, and a chunk with others than its archive stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors.exceptions import Terminal
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.drop_archived import drop_archived
from tasks.archive.due import to_archive
from tasks.archive.manifest import BadArchive, Manifest, archive_names, load_manifest, manifest_path
from tasks.archive.supersede import supersede
from tasks.archive.verify import verify
from tasks.archive.write_chunk import archive_chunk
from tests.support.archives import content_hash, insert_events, only_chunk, plain_events, rows_in_order
from tests.support.default_table import default_table

Alter = Callable[[str], None]
ADD_TENANT = "ALTER TABLE events ADD COLUMN tenant text NOT NULL DEFAULT 'acme'"


@pytest.fixture
def rows(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    insert_events(database, plain_events(100))
    yield database
    database.execute("ALTER TABLE events DROP COLUMN IF EXISTS tenant, DROP COLUMN IF EXISTS org")


def tenants(folder: Path, manifest: Manifest) -> set[str]:
    return {value for file in manifest.files for value in pd.read_parquet(folder / file.path)["tenant"]}


def test_without_other_columns_an_archive_is_as_it_always_was(
    rows: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    manifest = archive_chunk(rows, default_table(rows), only_chunk(rows), root)
    plain = json.loads((folder / manifest_path("events", manifest.name)).read_text())
    assert plain["format"] == 1
    assert plain.keys() == {
        "archived_at", "chunk", "content_hash", "files", "format", "hypertable", "max_time", "min_time", "rows",
        "sha256",
    }  # fmt: skip
    assert manifest.name == f"20240104T000000Z_20240111T000000Z_{content_hash(rows_in_order(rows))}"
    schema = pq.read_schema(folder / manifest.files[0].path)
    assert {field.name: str(field.type) for field in schema} == {
        "time": "timestamp[us, tz=UTC]", "event_id": "extension<arrow.uuid>", "event_type": "string",
        "user_id": "string", "properties": "string",
    }  # fmt: skip


def test_a_manifest_names_each_column_with_its_type(
    alter: Alter,
    database: psycopg.Connection,
    root: ArchiveRoot,
    folder: Path,
) -> None:
    alter("""CREATE TYPE users.mood AS ENUM ('sad'); ALTER TABLE events ADD COLUMN gone int;
             ALTER TABLE events DROP COLUMN gone, ADD COLUMN "Mood %s" users.mood, ADD COLUMN price numeric(12,3),
                ADD COLUMN doubled numeric(14,3) GENERATED ALWAYS AS (price * 2) STORED""")
    insert_events(database, plain_events(10))
    manifest = archive_chunk(database, default_table(database), only_chunk(database), root)
    plain = json.loads((folder / manifest_path("events", manifest.name)).read_text())
    assert (plain["format"], load_manifest(root, manifest.name)) == (2, manifest)
    assert [(one["name"], one["type"], one["generated"]) for one in plain["columns"][5:]] == [
        ('Mood %s', "users.mood", False), ("price", "numeric(12,3)", False), ("doubled", "numeric(14,3)", True),
    ]  # fmt: skip
    schema = pq.read_schema(folder / manifest.files[0].path)
    assert [str(field.type) for field in schema][5:] == ["string", "decimal128(12, 3)", "decimal128(14, 3)"]
    assert schema.field("price").metadata[b"postgresql_type"] == b"numeric(12,3)"


def test_the_session_of_the_caller_changes_no_text(
    alter: Alter, database: psycopg.Connection, root: ArchiveRoot
) -> None:
    alter("""ALTER TABLE events ADD COLUMN at timestamptz DEFAULT '-infinity', ADD COLUMN span interval DEFAULT
             '1 year -2 mons', ADD COLUMN raw bytea[] DEFAULT '{"\\\\x00ff"}',
             ADD COLUMN f float8[] DEFAULT '{0.1,1e-5}', ADD COLUMN paid money DEFAULT '12.34',
             ADD COLUMN of regclass DEFAULT 'public.events'""")
    insert_events(database, plain_events(10))
    alter("UPDATE events SET at = '2024-02-01 12:00+00' WHERE user_id <> 'user-1'")
    chunk = only_chunk(database)
    first = archive_chunk(database, default_table(database), chunk, root)
    for setting in ("TimeZone = 'Pacific/Kiritimati'", "client_encoding = 'LATIN1'", "DateStyle = 'German'",
                    "IntervalStyle = 'iso_8601'", "bytea_output = 'escape'", "extra_float_digits = -5",
                    "lc_monetary = 'C'", "search_path = users, public"):  # fmt: skip
        database.execute(f"SET {setting}")
    assert archive_chunk(database, default_table(database), chunk, root) == first
    assert drop_archived(database, default_table(database), chunk, first, root) == "dropped"
    database.execute("RESET ALL")


def test_a_column_added_between_archive_and_drop_keeps_the_chunk(
    rows: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    chunk = only_chunk(rows)
    manifest = archive_chunk(rows, default_table(rows), chunk, root)
    rows.execute(ADD_TENANT)
    before = rows_in_order(rows)
    assert drop_archived(rows, default_table(rows), chunk, manifest, root) == "changed"
    assert (only_chunk(rows), rows_in_order(rows)) == (chunk, before)
    second = archive_chunk(rows, default_table(rows), chunk, root)
    assert (second.rows, tenants(folder, second)) == (100, {"acme"})
    assert drop_archived(rows, default_table(rows), chunk, second, root) == "dropped"
    assert archive_names(root) == [second.name]  # the first is superfluous: all of its rows are in the second
    assert rows_in_order(rows) == []


def test_a_renamed_or_retyped_column_is_another_one(rows: psycopg.Connection, root: ArchiveRoot) -> None:
    chunk = only_chunk(rows)
    rows.execute(ADD_TENANT)
    first = archive_chunk(rows, default_table(rows), chunk, root)
    rows.execute("ALTER TABLE events RENAME COLUMN tenant TO org")
    assert drop_archived(rows, default_table(rows), chunk, first, root) == "changed"
    second = archive_chunk(rows, default_table(rows), chunk, root)
    assert first.content_hash == second.content_hash
    assert first.name != second.name
    supersede(rows, default_table(rows), chunk, second, root)
    assert set(archive_names(root)) == {first.name, second.name}
    rows.execute("ALTER TABLE events ALTER COLUMN org TYPE varchar(8)")
    assert drop_archived(rows, default_table(rows), chunk, second, root) == "changed"


def test_a_chunk_that_stays_is_archived_again_with_its_new_column(rows: psycopg.Connection, root: ArchiveRoot) -> None:
    chunk = only_chunk(rows)
    archive_chunk(rows, default_table(rows), chunk, root)
    assert to_archive(rows, default_table(rows), root, timedelta(days=1)) == []
    rows.execute(ADD_TENANT)
    assert to_archive(rows, default_table(rows), root, timedelta(days=1)) == [chunk]
    supersede(rows, default_table(rows), chunk, archive_chunk(rows, default_table(rows), chunk, root), root)
    assert to_archive(rows, default_table(rows), root, timedelta(days=1)) == []
    assert len(archive_names(root)) == 1


def test_a_changed_value_of_an_extra_column_is_detected_in_the_table_and_in_the_files(
    rows: psycopg.Connection, root: ArchiveRoot, folder: Path
) -> None:
    chunk = only_chunk(rows)
    rows.execute(ADD_TENANT)
    manifest = archive_chunk(rows, default_table(rows), chunk, root)
    rows.execute("UPDATE events SET tenant = 'acmé' WHERE event_id = (SELECT event_id FROM events LIMIT 1)")
    assert drop_archived(rows, default_table(rows), chunk, manifest, root) == "changed"
    file = manifest.files[0]
    table = pq.read_table(folder / file.path)
    values = ["acme"] * (table.num_rows - 1) + ["acne"]
    field = table.schema.field("tenant")
    pq.write_table(table.set_column(5, field, pa.array(values)), folder / file.path)
    size, sha256 = root.fingerprint(file.path)
    changed = replace(manifest, files=(replace(file, bytes=size, sha256=sha256), *manifest.files[1:]))
    (folder / manifest_path("events", manifest.name)).write_bytes(changed.to_json())
    with pytest.raises(BadArchive, match="expected content hash"):
        verify(root, changed)


def test_a_column_that_was_added_and_dropped_again_is_no_obstacle(rows: psycopg.Connection, root: ArchiveRoot) -> None:
    rows.execute(ADD_TENANT)
    rows.execute("ALTER TABLE events DROP COLUMN tenant")
    chunk, table = only_chunk(rows), default_table(rows)
    manifest = archive_chunk(rows, table, chunk, root)
    assert drop_archived(rows, table, chunk, manifest, root) == "dropped"
    assert rows_in_order(rows) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE events DROP COLUMN user_id", "expected the column user_id text, found none"),
        ("ALTER TABLE events ALTER COLUMN properties TYPE json", "expected the column properties jsonb, found json"),
    ],
)
def test_a_table_without_one_of_our_columns_keeps_its_chunks(
    change: str,
    said: str,
    alter: Alter,
    database: psycopg.Connection,
    root: ArchiveRoot,
) -> None:
    insert_events(database, plain_events(100))
    alter(f"DROP INDEX events_properties_idx; {change}")
    with pytest.raises(Terminal, match=f"{said}; the chunk stays with all its rows"):
        archive_chunk(database, default_table(database), only_chunk(database), root)
    assert archive_names(root) == []
