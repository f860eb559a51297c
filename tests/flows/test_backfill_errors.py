"""Broken sources and contradictory arguments: one clear error each, and nothing is loaded."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import COLUMNS, as_document, csv_text, flat_columns, ndjson, parquet, written
from tests.support.command_line import RunSpillway, assert_one_error
from tests.support.oracle import flat_rows, table_rows
from tests.support.results import backfill_counts
from tests.support.source_files import as_unprivileged_user
from tests.support.stream_entries import event
from tests.support.tables import nothing_was_written

pytestmark = pytest.mark.usefixtures("prefect_server")

ENTRIES = [event(n) for n in range(2_000)]
LINES = ndjson(map(as_document, ENTRIES))
ROWS = [flat_columns(entry) for entry in ENTRIES]

# Name and content of a file, and parts of its error message.
BROKEN: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "cut gzip": (
        "x.ndjson.gz",
        gzip.compress(LINES)[:-2_000],
        ("expected gzip", "truncated or corrupt", "fetch or write"),
    ),
    "no gzip": ("x.ndjson.gz", LINES, ("expected gzip", "truncated or corrupt")),
    "no zstd": ("x.csv.zst", LINES, ("expected zstd", "truncated or corrupt")),
    "cut Parquet": ("x.parquet", parquet(ROWS)[:-100], ("expected Parquet", "truncated or corrupt")),
    "Parquet without a column": (
        "x.parquet",
        parquet({k: v for k, v in row.items() if k != "user_id"} for row in ROWS),
        ("expected a column 'user_id'", "event_id, event_type, time, properties", "nothing was loaded", "--mapping"),
    ),
    "CSV with another header": (
        "x.csv",
        csv_text(({("when" if k == "time" else k): v for k, v in row.items()} for row in ROWS), ("when", *COLUMNS[1:])),
        ("expected a column 'time' or 'timestamp'", "when, event_id", "nothing was loaded"),
    ),
    "CSV without a header": ("x.csv", csv_text(ROWS).partition(b"\r\n")[2], ("x.csv", "expected")),
    "CSV with a name twice": ("x.csv", b"time,time\r\n1,2\r\n", ("different names", "'time' repeated in column 2")),
    "CSV with an open quote": (
        "x.csv",
        csv_text(ROWS) + b'"open',
        ("record 2001", "expected a closing quote, found the end of the file"),
    ),
    "unknown kind": ("x.xlsx", b"PK", ("expected a name that ends with", "'x.xlsx'", "convert")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named_and_not_loaded(
    case: str, spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    name, data, parts = BROKEN[case]
    code, out, err = spillway("backfill", written(tmp_path, name, data))
    assert (code, out) == (1, "")
    assert_one_error(err, name, *parts)
    assert nothing_was_written(database)


def test_one_broken_file_prevents_loading_the_others(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    written(tmp_path, "a.csv", csv_text(ROWS[:10]))
    written(tmp_path, "b.ndjson.gz", gzip.compress(LINES)[:-2_000])
    code, _, err = spillway("backfill", str(tmp_path))
    assert code == 1
    assert_one_error(err, "b.ndjson.gz")
    assert nothing_was_written(database)
    written(tmp_path, "b.ndjson.gz", gzip.compress(LINES))
    assert spillway("backfill", str(tmp_path))[0] == 0
    assert table_rows(database) == flat_rows(ENTRIES)


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("nothing-here.csv", ("nothing-here.csv", "found no such path", "correct the source")),
        ("nothing-*.csv", ("nothing-*.csv", "expected files that match that glob")),
        ("", ("expected files in that folder",)),
        ("gopher://x/y.csv", ("gopher",)),
    ],
)
def test_a_source_that_matches_nothing_is_named(
    source: str, parts: tuple[str, ...], spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    code, _, err = spillway("backfill", source if "://" in source else str(tmp_path / source))
    assert code == 1
    assert_one_error(err, *parts)
    assert nothing_was_written(database)


def test_a_file_that_may_not_be_read_is_named(database: psycopg.Connection, tmp_path: Path) -> None:
    """Run as a user without root rights, who cannot read the folder of the tests either."""
    path = written(tmp_path, "x.csv", csv_text(ROWS[:10]))
    Path(path).chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(Terminal, match=r"x\.csv.*may not"):
            backfill(path)
    else:
        from tasks.files.find import find_files

        with as_unprivileged_user(), pytest.raises(Terminal, match=r"x\.csv.*chmod"):
            find_files(path)
    assert nothing_was_written(database)
    Path(path).chmod(0o600)
    assert backfill_counts(backfill(path)) == (10, 10, 0, 0)


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    form: str, database: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"ndjson": LINES, "csv": csv_text(ROWS), "parquet": parquet(ROWS)}[form]
    path = written(tmp_path, f"x.{form}", data)
    import tasks.files.scan as module

    really = module.rows_to_entries
    seen = []

    def grow_meanwhile(rows: object) -> object:
        if not seen:
            with Path(path).open("ab") as file:
                file.write(b"more")
        seen.append(rows)
        return really(rows)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "rows_to_entries", grow_meanwhile)
    with pytest.raises(Terminal, match=r"found that it changed while it was read; nothing was loaded; start the"):
        backfill(path)
    monkeypatch.undo()
    assert nothing_was_written(database)
    Path(path).write_bytes(data)
    backfill(path)
    assert table_rows(database) == flat_rows(ENTRIES)


def test_a_file_that_changes_after_the_scan_is_loaded_as_scanned(
    database: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hashed content is loaded, whatever happens to the file meanwhile."""
    import flows.plain.backfill as module

    path = written(tmp_path, "x.csv", csv_text(ROWS[:50]))
    really = module.make_plan

    def cut_then_plan(*args: object, **options: object) -> object:
        Path(path).write_bytes(b"")
        return really(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "make_plan", cut_then_plan)
    assert backfill_counts(backfill(path)) == (50, 50, 0, 0)
    assert table_rows(database) == flat_rows(ENTRIES[:50])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("expected files", "or a stream, or the archive")),
        (("x.csv", "--archive"), ("name one of them",)),
        (("x.csv", "--stream", "s"), ("name one of them",)),
        (("--archive", "--stream", "s"), ("name one of them",)),
        (("x.csv", "--since", "2026-01-01T00:00:00Z"), ("since and until apply only to a stream or the archive",)),
        (("x.csv", "--rate", "0"), ("rate: expected more than 0",)),
        (("--stream", "s", "--since", "yesterday"), ("since: expected an entry id", "'yesterday'")),
        (("--stream", "no-such-stream"), ("'no-such-stream' does not exist in Redis",)),
        (("--archive",), ("SPILLWAY_ARCHIVE_URL",)),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], parts: tuple[str, ...], spillway: RunSpillway, redis_client: object,
    database: psycopg.Connection,
) -> None:  # fmt: skip
    code, _, err = spillway("backfill", *arguments)
    assert code == (1 if "no-such-stream" in arguments else 2)
    assert_one_error(err, *parts)
    assert nothing_was_written(database)


def test_a_missing_mapping_is_named(spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", csv_text(ROWS[:10]))
    code, _, err = spillway("backfill", path, "--mapping", "nobody-knows")
    assert code == 2
    assert_one_error(err, "--mapping nobody-knows: no table of")
    assert nothing_was_written(database)


def test_a_mapping_that_fits_the_name_but_not_the_file_shows_the_columns(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]
) -> None:
    mapping = tmp_path / "spillway.toml"
    mapping.write_text(
        '[streams."clicks*"]\nlayout = "flat"\ntime = "at"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        'user_id = "user_id"\nproperties = "properties"\n'
    )
    configure(mappings=mapping)
    code, _, err = spillway("backfill", written(tmp_path, "clicks.parquet", parquet(ROWS[:10])))
    assert code == 1
    assert_one_error(err, "expected a column 'at' for time", 'streams."clicks*"', "event_id, event_type, user_id, time")
    code, _, err = spillway("backfill", written(tmp_path, "clicks.ndjson", LINES))
    assert code == 1
    assert_one_error(err, "'at'", "'event_id', 'event_type', 'user_id', 'time'")
    assert nothing_was_written(database)
    assert spillway("backfill", written(tmp_path, "other.parquet", parquet(ROWS[:10])))[0] == 0
    assert table_rows(database) == flat_rows(ENTRIES[:10])


def test_a_mapping_that_does_not_fit_an_undrained_stream_is_refused(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:  # fmt: skip
    send(redis_client, stream, ENTRIES[:50])
    path = tmp_path / "spillway.toml"
    path.write_text(
        f'[streams."{stream}"]\nlayout = "flat"\ntime = "when"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        'user_id = "user_id"\n'
    )
    configure(mappings=path)
    with pytest.raises(Terminal, match="time names 'when', which none of the first 50 readable entries"):
        backfill(stream=stream)
    assert database.execute("SELECT count(*) FROM spillway.ledger").fetchall() == [(0,)]
    assert table_rows(database) == {}
