"""An archive that is not what its manifest says is refused with the file, what was expected and what was found, and the
chunk is not dropped."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.drop_archived import drop_archived
from tasks.archive.manifest import BadArchive, Manifest, load_manifest, manifest_path
from tasks.archive.verify import read_archive, verify
from tasks.archive.write_chunk import archive_chunk
from tasks.columns.column_forms import STANDARD_COLUMNS, schema_of
from tasks.table.chunks import Chunk
from tests.support.archives import event, insert_events, only_chunk, plain_events
from tests.support.default_table import default_table
from tests.support.oracle import table_digest


@dataclass(frozen=True)
class Archived:
    """An archive in a folder, and its chunk, which is still in the table."""

    chunk: Chunk
    manifest: Manifest
    root: ArchiveRoot
    folder: Path

    @property
    def file(self) -> Path:
        """One of the data files."""
        return self.folder / self.manifest.files[3].path

    def rewritten(self, change: Callable[[pa.Table], pa.Table]) -> Manifest:
        """Change the rows of the file, and have the manifest list it as it then is, but for count and content."""
        pq.write_table(change(pq.read_table(self.file)), self.file, compression="zstd")
        size, sha256 = self.root.fingerprint(self.manifest.files[3].path)
        files = list(self.manifest.files)
        files[3] = replace(files[3], bytes=size, sha256=sha256)
        return self.listed(replace(self.manifest, files=tuple(files)))

    def listed(self, manifest: Manifest) -> Manifest:
        """Put another manifest in place of the one that is there."""
        (self.folder / manifest_path("events", manifest.name)).write_bytes(manifest.to_json())
        return manifest


@pytest.fixture
def archived(database: psycopg.Connection, root: ArchiveRoot, folder: Path) -> Archived:
    insert_events(database, plain_events(700))
    chunk = only_chunk(database)
    return Archived(chunk, archive_chunk(database, default_table(database), chunk, root), root, folder)


def refused(database: psycopg.Connection, archived: Archived, manifest: Manifest, *said: str) -> None:
    """The chunk is neither verified nor dropped. The error names the file, what was expected and what was found."""
    before = table_digest(database)
    with pytest.raises(BadArchive) as error:
        verify(archived.root, manifest)
    for part in (manifest.name, *said):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(BadArchive):
        drop_archived(database, default_table(database), archived.chunk, manifest, archived.root)
    assert table_digest(database) == before
    assert only_chunk(database) == archived.chunk


def test_a_flipped_byte_is_refused_at_any_offset(database: psycopg.Connection, archived: Archived) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    files = [archived.folder / file.path for file in archived.manifest.files]
    for path in [*files, archived.folder / manifest_path("events", archived.manifest.name)]:
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(10))}:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << chance.randrange(8)
            path.write_bytes(flipped)
            with pytest.raises(BadArchive, match="expected") as error:
                verify(archived.root, archived.manifest)
            assert path.name in str(error.value)
        path.write_bytes(whole)
    verify(archived.root, archived.manifest)


def test_a_chunk_with_a_flipped_byte_in_its_archive_is_not_dropped(
    database: psycopg.Connection, archived: Archived
) -> None:
    data = bytearray(archived.file.read_bytes())
    data[len(data) // 2] ^= 1
    archived.file.write_bytes(data)
    listed = archived.manifest.files[3]
    refused(database, archived, archived.manifest, listed.path, f"expected sha256 {listed.sha256}, found ")


@pytest.mark.parametrize("kept", [0, 7, 0.5, 0.999])
def test_a_cut_file_is_refused(kept: float, database: psycopg.Connection, archived: Archived) -> None:
    data = archived.file.read_bytes()
    size = int(kept * len(data)) if isinstance(kept, float) else kept
    archived.file.write_bytes(data[:size])
    said = f"expected {len(data)} bytes, found {size}"
    refused(database, archived, archived.manifest, archived.manifest.files[3].path, said)


def test_a_missing_file_is_refused(database: psycopg.Connection, archived: Archived) -> None:
    archived.file.unlink()
    refused(database, archived, archived.manifest, archived.manifest.files[3].path, "bytes, found none")


def test_a_file_more_is_refused(database: psycopg.Connection, archived: Archived) -> None:
    """A day's file with the archive's name that the manifest does not list: its rows would be in it or not."""
    manifest = archived.listed(replace(archived.manifest, files=archived.manifest.files[:-1]))
    extra = archived.manifest.files[-1].path
    refused(database, archived, manifest, extra, "no such file, since the manifest does not list it, found one")


def test_a_missing_row_is_refused_even_if_file_and_manifest_agree(
    database: psycopg.Connection, archived: Archived
) -> None:
    manifest = archived.rewritten(lambda table: table.slice(1))
    refused(database, archived, manifest, archived.manifest.files[3].path, "expected 100 rows, found 99")


def test_a_row_twice_in_place_of_another_is_refused(database: psycopg.Connection, archived: Archived) -> None:
    manifest = archived.rewritten(lambda table: pa.concat_tables([table.slice(1, 1), table.slice(1)]))
    refused(database, archived, manifest, archived.manifest.files[3].path, "expected content hash")


@pytest.mark.parametrize("column", ["time", "event_id", "event_type", "user_id", "properties"])
def test_one_other_value_is_refused(column: str, database: psycopg.Connection, archived: Archived) -> None:
    """Also an empty text in place of null."""
    other = {"time": timedelta(microseconds=1), "event_id": b"\x07" * 16, "properties": None}.get(column, "")

    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[50] = values[50] + other if isinstance(other, timedelta) else other
        schema = schema_of(STANDARD_COLUMNS)
        return table.set_column(
            schema.get_field_index(column), schema.field(column), pa.array(values, schema.field(column).type)
        )

    manifest = archived.rewritten(change)
    refused(database, archived, manifest, archived.manifest.files[3].path, "expected content hash")


def test_files_that_changed_their_days_are_refused(database: psycopg.Connection, archived: Archived) -> None:
    first, second, *rest = archived.manifest.files
    paths = [archived.folder / file.path for file in (first, second)]
    shutil.move(paths[0], archived.folder / "aside")
    shutil.move(paths[1], paths[0])
    shutil.move(archived.folder / "aside", paths[1])
    exchanged = [replace(second, path=first.path, day=first.day), replace(first, path=second.path, day=second.day)]
    manifest = archived.listed(replace(archived.manifest, files=(*exchanged, *rest)))
    refused(database, archived, manifest, first.path, "expected times from 2024-01-04")


def test_rows_in_another_order_are_refused(database: psycopg.Connection, archived: Archived) -> None:
    manifest = archived.rewritten(lambda table: table.sort_by([("time", "descending")]))
    refused(database, archived, manifest, archived.manifest.files[3].path, "rows in the order of time")


def test_other_columns_are_refused(database: psycopg.Connection, archived: Archived) -> None:
    manifest = archived.rewritten(lambda table: table.drop_columns(["user_id"]))
    said = "expected the columns time timestamp[us, tz=UTC], event_id"
    refused(database, archived, manifest, archived.manifest.files[3].path, said)


def test_a_manifest_whose_sums_are_not_those_of_its_files_is_refused(
    database: psycopg.Connection, archived: Archived
) -> None:
    manifest = archived.listed(replace(archived.manifest, rows=701))
    refused(database, archived, manifest, "all files together: expected rows 701, found 700")


def test_a_time_that_is_written_in_another_way_is_a_changed_byte_too(
    database: psycopg.Connection, archived: Archived
) -> None:
    path = archived.folder / manifest_path("events", archived.manifest.name)
    path.write_bytes(path.read_bytes().replace(b'"range_start": "2024-01-04T', b'"range_start": "2024-01-04t'))
    refused(database, archived, archived.manifest, "expected sha256")


def test_files_without_a_manifest_are_no_archive(database: psycopg.Connection, archived: Archived) -> None:
    (archived.folder / manifest_path("events", archived.manifest.name)).unlink()
    refused(database, archived, archived.manifest, "expected a manifest, found no file")


def test_a_manifest_of_a_later_format_is_not_guessed_at(archived: Archived) -> None:
    path = archived.folder / manifest_path("events", archived.manifest.name)
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 4'))
    with pytest.raises(BadArchive, match="expected format 1 to 3, found 4"):
        load_manifest(archived.root, archived.manifest.name)


@pytest.mark.parametrize(("harm", "said"), [(Path.unlink, "found none"), (lambda p: p.write_bytes(b"PAR1"), "Parquet")])
def test_reading_an_invalid_file_is_an_error_that_names_it(
    harm: Callable[[Path], object], said: str, archived: Archived
) -> None:
    harm(archived.file)
    with pytest.raises(BadArchive, match=said) as error:
        list(read_archive(archived.root, archived.manifest))
    assert archived.manifest.files[3].path in str(error.value)


def test_reading_with_a_flipped_byte_gives_rows_or_an_error_that_names_the_file(archived: Archived) -> None:
    """Verification checks that the rows are right; pyarrow raises several kinds of errors while it reads."""
    whole, errors = archived.file.read_bytes(), []
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        archived.file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            list(read_archive(archived.root, archived.manifest))
        except BadArchive as error:
            errors.append(str(error))
    assert errors
    assert all(archived.manifest.files[3].path in text and "\n" not in text for text in errors)


def test_verification_goes_by_the_files_and_not_by_the_table(database: psycopg.Connection, archived: Archived) -> None:
    insert_events(database, [event(10_000, archived.chunk.range_start)])
    verify(archived.root, archived.manifest)
    database.execute("TRUNCATE events")
    verify(archived.root, load_manifest(archived.root, archived.manifest.name))
