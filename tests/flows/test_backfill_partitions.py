"""Folders `year=2024/month=01`: the values in a path are in the table, for every writer and in every location."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import psycopg
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from flows.backfill import backfill
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tasks.columns.uuids import NAMESPACE
from tests.support.backfill_sources import csv_text, file_sha256, ndjson, parquet, written
from tests.support.oracle import Key, Row, ledger_sums, table_rows
from tests.support.results import backfill_counts, findings_of
from tests.support.triggers import failing_at, trigger

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
MAPPING = """
[streams."*"]
layout = "flat"
time = "at"
event_id = { key = "{sensor}|{at}|{tenant}", uuid5 = true }
event_type = "{year}-{month}"
user_id = { key = "tenant", default = "nobody" }
properties = "more"
"""
WRITE: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    "csv": lambda rows: csv_text(rows, list(rows[0])),
    "parquet": parquet,
    "ndjson": lambda rows: ndjson(json.dumps(row | {"more": json.loads(row["more"])}).encode() for row in rows),
}


@pytest.fixture(autouse=True)
def mapped(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "spillway.toml").write_text(MAPPING)
    configure(mappings=tmp_path / "spillway.toml", batch_rows=40)


def reading(number: int, tenant: str | None) -> dict[str, str | None]:
    at = FIRST + timedelta(hours=13 * number)
    return {
        "sensor": f"s{number % 3}",
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "more": json.dumps({"n": number}),
        "year": f"{at:%Y}",
        "month": f"{at:%m}",
        "tenant": tenant,
    }


def rows_of(readings: list[dict[str, str | None]], key: str = "{sensor}|{at}|{tenant}") -> dict[Key, Row]:
    """The expected rows of the table, from the rows before they were split."""
    found: dict[Key, Row] = {}
    for row in readings:
        moment = datetime.fromisoformat(str(row["at"]))
        values = (f"{row['year']}-{row['month']}", row["tenant"] or "nobody", json.loads(str(row["more"])))
        found[str(uuid.uuid5(NAMESPACE, key.format(**row))), moment] = values
    return found


def split(folder: Path, form: str, readings: list[dict[str, str | None]]) -> None:
    """Split rows into year=…/month=…/tenant=… with names that need no encoding."""
    parts: dict[str, list[dict[str, str]]] = {}
    for row in readings:
        partition = f"year={row['year']}/month={row['month']}/tenant={row['tenant']}"
        parts.setdefault(partition, []).append({name: str(row[name]) for name in ("sensor", "at", "more")})
    for partition, rows in parts.items():
        (folder / partition).mkdir(parents=True)
        written(folder / partition, f"part-0.{form}", WRITE[form](rows))


READINGS = [reading(n, f"t{n % 2}") for n in range(120)]


@pytest.mark.parametrize("form", WRITE)
def test_path_columns_are_in_the_table_and_each_file_is_recognized(
    form: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    split(tmp_path / "data", form, READINGS)
    result = backfill(str(tmp_path / "data"))
    assert backfill_counts(result) == (120, 120, 0, 0)
    assert table_rows(database) == rows_of(READINGS)
    assert len(result["sources"]) == 6
    for source in ("data", "data/year=2024", "data/year=2024/month=02/*/*", "data/year=2024/month=01/tenant=t0"):
        again = backfill(str(tmp_path / source))
        assert backfill_counts(again) == (0, 0, 0, 0), source
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, 120, [])
    database.execute("DELETE FROM events WHERE user_id = 't1' AND event_type = '2024-02'")
    gone = 120 - len(table_rows(database))
    assert findings_of(reconcile("*", deep=True, fail=False)) == [("missing", gone)]
    assert reconcile("*", deep=True, repair=True)["repaired"] == gone
    assert table_rows(database) == rows_of(READINGS)


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_the_same_bytes_in_two_folders_are_different_rows(
    form: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    for tenant in ("a", "b"):
        split(tmp_path / tenant, form, [reading(n, tenant) for n in range(10)])
    split(tmp_path / "copy", form, [reading(n, "b") for n in range(10)])
    result = backfill([str(tmp_path / folder) for folder in ("a", "b", "copy")])
    assert backfill_counts(result) == (20, 20, 0, 0)
    assert table_rows(database) == rows_of([reading(n, tenant) for n in range(10) for tenant in "ab"])
    assert len({one["ledger_name"] for one in result["sources"]}) == 2


def test_a_single_file_also_has_its_path_columns(database: psycopg.Connection, tmp_path: Path) -> None:
    split(tmp_path, "csv", READINGS[:5])
    (path,) = (tmp_path / "year=2024/month=01/tenant=t0").iterdir()
    assert backfill_counts(backfill(str(path))) == (3, 3, 0, 0)
    assert table_rows(database) == rows_of(READINGS[:5:2])
    assert backfill(str(tmp_path / "year=2024"))["read"] == 2
    assert table_rows(database) == rows_of(READINGS[:5])


def test_a_source_that_failed_in_the_middle_continues_and_is_exact(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    split(tmp_path / "data", "parquet", READINGS)
    ids = sorted(event_id for event_id, _ in rows_of(READINGS))
    with trigger(database, failing_at(ids[60])), pytest.raises(Terminal, match="untouched"):
        backfill(str(tmp_path / "data"))
    part = table_rows(database)
    assert part.items() < rows_of(READINGS).items()
    assert backfill(str(tmp_path / "data"))["inserted"] == 120 - len(part)
    assert table_rows(database) == rows_of(READINGS)
    assert reconcile("*", deep=True)["balanced"]


def test_a_file_that_contradicts_its_path_is_refused_and_nothing_is_loaded(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    folder = tmp_path / "year=2024" / "month=01"
    folder.mkdir(parents=True)
    rows = [{name: str(value) for name, value in reading(n, "a").items()} for n in range(70)]
    written(folder, "x.csv", csv_text(rows, list(rows[0])))
    with pytest.raises(Terminal, match=r"x\.csv, row 59: expected 'month' to be '01' as in the path, found another"):
        backfill(str(tmp_path))
    assert table_rows(database) == {}
    written(folder, "x.csv", csv_text(rows[:58], list(rows[0])))
    assert backfill_counts(backfill(str(tmp_path))) == (58, 58, 0, 0)
    assert table_rows(database) == rows_of([reading(n, "a") for n in range(58)])


def test_a_malformed_record_waits_unchanged_in_the_quarantine(database: psycopg.Connection, tmp_path: Path) -> None:
    split(tmp_path, "csv", READINGS[:1])
    (path,) = tmp_path.glob("year=*/*/*/*.csv")
    path.write_bytes(path.read_bytes() + b"x,y\n")
    assert backfill_counts(backfill(str(tmp_path))) == (2, 1, 0, 1)
    (reason,) = database.execute("SELECT field FROM spillway.quarantine").fetchall()
    assert reason == ("(malformed record)",)


def test_a_file_that_an_earlier_version_loaded_without_its_path_is_reported(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    split(tmp_path, "csv", READINGS[:1])
    (path,) = tmp_path.glob("year=*/*/*/*.csv")
    ledger_name = str(backfill(str(path))["sources"][0]["ledger_name"])
    plain = f"file:{file_sha256(str(path))}"
    assert ledger_name != plain
    database.execute("UPDATE spillway.streams SET name = %s", [plain])
    with pytest.raises(Terminal, match=r"loaded without the columns of its path \(year, month, tenant\) .*--again"):
        backfill(str(path))
    (note,) = reconcile("*", deep=True)["notes"]
    assert "without the columns of its path" in note
    assert backfill_counts(backfill(str(path), again=True)) == (1, 0, 1, 0)


@pytest.fixture
def in_memory() -> Iterator[tuple[str, Any]]:
    """A location that is not on this machine's disk."""
    files = fsspec.filesystem("memory")
    yield "memory://partitions/data", files
    if files.exists("/partitions"):
        files.rm("/partitions", recursive=True)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_dataset_that_arrow_has_split_is_the_same_table_as_an_unsplit_one(
    form: str, database: psycopg.Connection, tmp_path: Path, in_memory: tuple[str, Any]
) -> None:
    """Tenants with every character that a path must encode, and no tenant; one location is local, one remote."""
    tenants = [None, "a/b", "ü %41", "x=y", "it's", "50%", " ", "__", "a+b", "\t", "?*[x]", *map(str, range(3))]
    readings = [reading(n, tenants[n % len(tenants)]) for n in range(60)]
    table = pa.Table.from_pylist(readings)
    by = ds.partitioning(pa.schema([(name, pa.string()) for name in ("year", "month", "tenant")]), flavor="hive")
    ds.write_dataset(table, tmp_path / "split", format=form, partitioning=by)
    (tmp_path / "spillway.toml").write_text(MAPPING.replace("|{tenant}", ""))
    result = backfill(str(tmp_path / "split"))
    assert backfill_counts(result) == (60, 60, 0, 0)
    assert table_rows(database) == rows_of(readings, "{sensor}|{at}")
    url, files = in_memory
    files.put(str(tmp_path / "split"), "/partitions/data", recursive=True)
    assert backfill_counts(backfill(url)) == (0, 0, 0, 0)
    pq.write_table(table, tmp_path / "whole.parquet")
    assert backfill_counts(backfill(str(tmp_path / "whole.parquet"))) == (60, 0, 60, 0)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, 120, [])


def test_a_remote_location_is_read_like_a_folder(database: psycopg.Connection, in_memory: tuple[str, Any]) -> None:
    url, files = in_memory
    rows = [{name: str(row[name]) for name in ("sensor", "at", "more")} for row in READINGS[:5]]
    files.pipe("/partitions/data/year=2024/month=01/tenant=a%2Fb/x.csv", csv_text(rows, list(rows[0])))
    result = backfill(url)
    assert backfill_counts(result) == (5, 5, 0, 0)
    assert table_rows(database) == rows_of([row | {"tenant": "a/b"} for row in READINGS[:5]])
    assert ledger_sums(database, result["sources"][0]["ledger_name"]) == (5, 5, 0, 0)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, 5, [])
