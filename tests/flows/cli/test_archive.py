"""`spillway archive` as typed: what it prints, its exit code, and that it needs no Prefect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import tasks.table.chunks
from infra.settings import Settings
from tasks.archive.archive_root import open_root
from tasks.archive.drop_archived import drop_archived
from tasks.archive.manifest import Manifest, manifest_path
from tasks.archive.write_chunk import archive_chunk
from tasks.files.archive_paths import archive_folder
from tests.support.archives import THURSDAY, chunks, event, insert_events, plain_events
from tests.support.command_line import RunSpillway
from tests.support.default_table import default_table
from tests.support.other_tables import fill, make_table

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]


@pytest.fixture
def spillway(command_line: RunSpillway) -> RunSpillway:
    """Without a Prefect server."""
    return command_line


@pytest.fixture
def archives(database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]) -> list[Manifest]:
    """Two archives, 1,200 rows and one row, below `tmp_path`, which is the archive of the settings."""
    configure(archive_url=tmp_path)
    insert_events(database, [*plain_events(1_200), event(1, THURSDAY.replace(month=3))])
    table, root = default_table(database), open_root(str(tmp_path))
    return [archive_chunk(database, table, chunk, root) for chunk in chunks(database)]


def test_list_shows_times_rows_and_sizes(spillway: RunSpillway, archives: list[Manifest]) -> None:
    code, out, _ = spillway("archive", "list")
    assert code == 0
    assert "1,200" in out
    assert "2024-01-04 00:00" in out
    assert "2 archives" in out
    assert "1,201 rows" in out
    assert all(manifest.name in out for manifest in archives)


def test_json_is_one_object_per_line(spillway: RunSpillway, archives: list[Manifest]) -> None:
    code, out, _ = spillway("archive", "list", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, [(one["name"], one["rows"]) for one in found]) == (0, [(m.name, m.rows) for m in archives])
    code, out, _ = spillway("archive", "verify", "--json")
    assert (code, [json.loads(line)["whole"] for line in out.splitlines()]) == (0, [True, True])


def test_verify_reads_everything_and_reports_files_that_no_manifest_lists(
    spillway: RunSpillway, archives: list[Manifest], tmp_path: Path
) -> None:
    assert spillway("archive", "verify") == (0, "2 complete, 1,201 rows; 0 failed\n", "")
    (tmp_path / "events" / "day=2024-01-04" / "mine.txt").write_text("x")
    code, _, err = spillway("archive", "verify")
    assert code == 0
    assert "warning: no manifest lists" in err
    assert "events/day=2024-01-04/mine.txt" in err


def test_a_damaged_archive_is_named_with_its_file_and_the_others_are_verified(
    spillway: RunSpillway, archives: list[Manifest], tmp_path: Path
) -> None:
    bad = archives[0].files[2].path
    (tmp_path / bad).write_bytes((tmp_path / bad).read_bytes()[:-1])
    code, out, err = spillway("archive", "verify")
    assert (code, out) == (1, "1 complete, 1 row; 1 failed\n")
    (line,) = err.splitlines()
    assert line.startswith("error: archive ")
    assert bad in line
    assert spillway("archive", "verify", archives[1].name)[0] == 0
    assert spillway("archive", "verify", archives[0].name)[0] == 1
    assert spillway("archive", "list")[0] == 0


def test_a_manifest_that_cannot_be_read_is_named(
    spillway: RunSpillway, archives: list[Manifest], tmp_path: Path
) -> None:
    path = manifest_path("events", archives[1].name)
    (tmp_path / path).write_text("{")
    for command in ("list", "verify"):
        code, out, err = spillway("archive", command)
        assert code == 1
        assert path in err
        assert "1,200" in out
    code, out, _ = spillway("archive", "verify", "--json")
    assert (code, {one["name"]: one["whole"] for one in map(json.loads, out.splitlines())}) == (
        1,
        {archives[0].name: True, archives[1].name: False},
    )


def test_a_missing_archive_is_an_error(spillway: RunSpillway, archives: list[Manifest]) -> None:
    code, _, err = spillway("archive", "verify", "no-such-archive")
    assert code == 1
    assert "no-such-archive" in err
    assert "found no file" in err


def test_without_a_location_the_error_names_the_setting(spillway: RunSpillway) -> None:
    code, _, err = spillway("archive", "list")
    assert code == 2
    assert "SPILLWAY_ARCHIVE_URL" in err


def test_a_location_without_archives_is_an_empty_list(spillway: RunSpillway, tmp_path: Path) -> None:
    code, out, _ = spillway("archive", "list", "--url", str(tmp_path / "nothing"))
    assert code == 0
    assert "0 archives" in out


def test_archives_of_several_tables_at_several_locations_are_listed_and_verified(
    spillway: RunSpillway,
    alter: Callable[[str], None],
    archives: list[Manifest],
    database: psycopg.Connection,
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    table = make_table(database, "date", name="users.other")
    fill(database, table, range(20))
    (chunk,) = tasks.table.chunks.chunks(database, table)
    root = open_root(str(tmp_path / "elsewhere"), archive_folder(table))
    other = archive_chunk(database, table, chunk, root)
    file = tmp_path / "spillway.toml"
    file.write_text(f'[tables."users.other"]\narchive_url = "{tmp_path / "elsewhere"}"\n')
    configure(mappings=file)
    code, out, _ = spillway("archive", "list")
    assert (code, [name in out for name in ("users.other", other.name, archives[0].name)]) == (0, [True] * 3)
    assert "3 archives in" in out
    assert spillway("archive", "verify") == (0, "3 complete, 1,221 rows; 0 failed\n", "")
    assert spillway("archive", "verify", other.name)[1] == "1 complete, 20 rows; 0 failed\n"
    (tmp_path / "elsewhere" / other.files[1].path).unlink()
    code, out, err = spillway("archive", "verify")
    assert (code, out) == (1, "2 complete, 1,201 rows; 1 failed\n")
    assert f"users.other/day=2024-01-05/{other.name}.parquet: expected a file" in err


def test_a_complete_verification_is_recorded_if_that_is_asked_for(
    spillway: RunSpillway, archives: list[Manifest], tmp_path: Path, database: psycopg.Connection
) -> None:
    def recorded() -> list[tuple[str]]:
        return database.execute("SELECT flow FROM spillway.successes").fetchall()

    assert spillway("archive", "verify")[0] == 0
    assert spillway("archive", "verify", archives[0].name, "--record")[0] == 2
    bad = tmp_path / archives[0].files[2].path
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-1])
    assert spillway("archive", "verify", "--record")[0] == 1
    assert recorded() == []
    bad.write_bytes(whole)
    assert spillway("archive", "verify", "--record")[0] == 0
    assert recorded() == [("archive verify",)]


@pytest.fixture
def dropped(database: psycopg.Connection, archives: list[Manifest], tmp_path: Path) -> list[Manifest]:
    """The archives, of chunks that were dropped."""
    table, root = default_table(database), open_root(str(tmp_path))
    for chunk, manifest in zip(chunks(database), archives, strict=True):
        assert drop_archived(database, table, chunk, manifest, root) == "dropped"
    return archives


@pytest.mark.parametrize("how", ["removed", "another folder", "empty"])
def test_archives_of_dropped_chunks_that_are_missing_are_named_and_nothing_is_recorded(
    spillway: RunSpillway,
    dropped: list[Manifest],
    tmp_path: Path,
    database: psycopg.Connection,
    configure: Callable[..., Settings],
    how: str,
) -> None:
    assert spillway("archive", "verify", "--record")[:2] == (0, "2 complete, 1,201 rows; 0 failed\n")
    database.execute("DELETE FROM spillway.successes")
    if how == "another folder":
        configure(archive_url=tmp_path / "never-existed")
    else:
        shutil.rmtree(tmp_path / "events")
        if how == "empty":
            (tmp_path / "events" / "_manifests").mkdir(parents=True)
    for options in ((), ("--record",)):
        code, out, err = spillway("archive", "verify", *options)
        assert (code, out) == (1, "0 complete, 0 rows; 0 failed; 2 missing, 1,201 rows\n")
        first, second = err.splitlines()
        assert '"public"."events", 2024-01-04 00:00 to 2024-01-11 00:00: expected an archive of 1,200 rows' in first
        assert "expected an archive of 1 row, since" in second
        assert "runbooks.md#spillwayarchiveunverified" in first
    code, out, _ = spillway("archive", "verify", "--record", "--json")
    assert code == 1
    assert [(one["name"], one["rows"], one["whole"]) for one in map(json.loads, out.splitlines())] == [
        (None, 1_200, False),
        (None, 1, False),
    ]
    assert database.execute("SELECT count(*) FROM spillway.successes").fetchone() == (0,)
    # The way out that the runbook names, for archives that were deleted on purpose.
    database.execute("UPDATE spillway.drops SET dropped_by = 'archive, since deleted' WHERE dropped_by = 'archive'")
    code, out, err = spillway("archive", "verify", "--record")
    assert (code, out) == (0, "0 complete, 0 rows; 0 failed\n")
    assert "nothing was recorded" in err
    assert database.execute("SELECT count(*) FROM spillway.successes").fetchone() == (0,)


def test_a_damaged_manifest_is_not_also_missing(spillway: RunSpillway, dropped: list[Manifest], tmp_path: Path) -> None:
    (tmp_path / manifest_path("events", dropped[1].name)).write_text("{")
    code, out, err = spillway("archive", "verify")
    assert (code, out) == (1, "1 complete, 1,200 rows; 1 failed\n")
    assert len(err.splitlines()) == 1


def test_archives_by_name_or_at_another_url_are_not_compared_with_the_database(
    spillway: RunSpillway, dropped: list[Manifest], tmp_path: Path
) -> None:
    (tmp_path / manifest_path("events", dropped[1].name)).unlink()
    assert spillway("archive", "verify", dropped[0].name) == (0, "1 complete, 1,200 rows; 0 failed\n", "")
    assert spillway("archive", "verify", "--url", str(tmp_path))[0] == 0
    assert spillway("archive", "verify", "--url", str(tmp_path), "--record")[0] == 1
    assert spillway("archive", "verify")[0] == 1


def test_without_a_database_archives_are_verified_and_a_warning_says_that_nothing_was_compared(
    spillway: RunSpillway, archives: list[Manifest], configure: Callable[..., Settings]
) -> None:
    configure(database_url="postgresql://postgres@127.0.0.1:1/nothing")
    code, out, err = spillway("archive", "verify")
    assert (code, out) == (0, "2 complete, 1,201 rows; 0 failed\n")
    assert "warning: the archives were not compared with the chunks that the database has dropped" in err
    assert spillway("archive", "verify", "--record")[0] == 1


def test_the_archive_of_another_table_at_a_location_of_its_own_is_missed_too(
    spillway: RunSpillway,
    alter: Callable[[str], None],
    dropped: list[Manifest],
    database: psycopg.Connection,
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    table = make_table(database, "date", name="users.other")
    fill(database, table, range(20))
    (chunk,) = tasks.table.chunks.chunks(database, table)
    elsewhere = tmp_path / "elsewhere"
    root = open_root(str(elsewhere), archive_folder(table))
    assert drop_archived(database, table, chunk, archive_chunk(database, table, chunk, root), root) == "dropped"
    code, _, err = spillway("archive", "verify", "--record")  # no setting names the location yet
    assert (code, len(err.splitlines())) == (1, 1)
    assert 'archive of "users"."other"' in err
    file = tmp_path / "spillway.toml"
    file.write_text(f'[tables."users.other"]\narchive_url = "{elsewhere}"\n')
    configure(mappings=file)
    assert spillway("archive", "verify", "--record") == (0, "3 complete, 1,221 rows; 0 failed\n", "")
    shutil.rmtree(elsewhere)
    code, out, err = spillway("archive", "verify", "--record")
    assert (code, out) == (1, "2 complete, 1,201 rows; 0 failed; 1 missing, 20 rows\n")
    assert 'archive of "users"."other", 2024-' in err


def test_of_many_missing_archives_some_are_named(
    spillway: RunSpillway, dropped: list[Manifest], database: psycopg.Connection
) -> None:
    database.execute("""
        INSERT INTO spillway.drops ("table", chunk, range_start, range_end, rows, dropped_by)
        SELECT '"public"."events"', 'c', '2020-01-01Z'::timestamptz + n * interval '1 day',
               '2020-01-02Z'::timestamptz + n * interval '1 day', 5, 'archive' FROM generate_series(1, 30) AS n""")
    code, out, err = spillway("archive", "verify")
    assert (code, out) == (1, "2 complete, 1,201 rows; 0 failed; 30 missing, 150 rows\n")
    assert len(err.splitlines()) == 21
    assert "10 more archives with 50 rows are missing" in err
