"""`spillway backfill` as typed: what it prints, its exit code, its limits."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from tests.support.backfill_sources import csv_text, flat_columns, parquet, written
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN
from tests.support.stream_entries import event

ENTRIES = [event(n) for n in range(1_200)]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """1,200 events, ten of them repeated."""
    return written(tmp_path, "x.csv", csv_text(map(flat_columns, [*ENTRIES, *ENTRIES[:10]])))


def test_json_is_one_object_on_the_last_line(
    path: str, env: dict[str, str], prefect_server: str, database: psycopg.Connection
) -> None:
    """In its own process, as a script would run it."""
    command = [BIN / "spillway", "backfill", path, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    names = ("rows", "remaining", "read", "inserted", "duplicates", "quarantined", "expired", "dry_run")
    assert [result[name] for name in names] == [1_210, 1_210, 1_210, 1_200, 10, 0, 0, False]
    assert (result["chunks"]["new"], result["first_day"], result["last_day"]) == (1, "2026-11-20", "2026-11-20")
    (source,) = result["sources"]
    assert (source["source"], source["state"], source["error"]) == (path, "new", None)
    assert result["seconds"] > 0
    assert table_rows(database) == flat_rows(ENTRIES)


def test_the_totals_of_a_backfill_are_a_table_for_people(
    path: str, spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    more = [event(2_000 + n) for n in range(5)]
    written(tmp_path, "y.parquet", parquet(map(flat_columns, more)))
    code, out, err = spillway("backfill", str(tmp_path))
    assert (code, err) == (0, "")
    for part in (path, "y.parquet", "1,210", "1,215", "1,205", "1,215 rows"):
        assert part in out
    assert "events/s from start to end" in out
    assert table_rows(database) == flat_rows([*ENTRIES, *more])
    code, out, _ = spillway("backfill", path)
    assert code == 0
    assert "known" in out
    assert "0 of them left to load" in out


def test_a_stream_is_named_by_its_option(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, ENTRIES[:30])
    ids = [entry_id.decode() for entry_id, _ in redis_client.xrange(stream)]  # type: ignore[union-attr]
    code, out, _ = spillway("backfill", "--stream", stream, "--since", ids[10], "--until", ids[19], "--json")
    assert (code, json.loads(out)["inserted"]) == (0, 10)
    assert table_rows(database) == flat_rows(ENTRIES[10:20])
    code, out, _ = spillway("backfill", "--stream", stream, "--since", ids[5], "--until", ids[19], "--again", "--json")
    result = json.loads(out)
    assert (code, result["read"], result["inserted"], result["duplicates"]) == (0, 15, 5, 10)
    assert table_rows(database) == flat_rows(ENTRIES[5:20])


def test_a_rate_is_not_exceeded(path: str, spillway: RunSpillway, database: psycopg.Connection) -> None:
    """1,210 rows at 300/s: slices of two seconds' worth, and never faster."""
    began = time.monotonic()
    code, out, _ = spillway("backfill", path, "--rate", "300", "--json")
    # The last slice need not be waited for: 1,200 rows were due before it.
    assert time.monotonic() - began >= (1_210 - 600) / 300
    assert (code, json.loads(out)["inserted"]) == (0, 1_200)
    assert table_rows(database) == flat_rows(ENTRIES)
    query = "SELECT read, extract(epoch FROM loaded_at)::float8 FROM spillway.ledger WHERE read > 0 ORDER BY ids"
    slices = database.execute(query).fetchall()
    assert [read for read, _ in slices] == [600, 600, 10]


def test_one_load_at_a_time_is_in_the_order_of_the_rows(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, ENTRIES[:60])))
    code, out, _ = spillway("backfill", path, "--parallel", "1", "--rate", "10", "--json")
    assert (code, json.loads(out)["inserted"]) == (0, 60)
    spans = database.execute("""
        SELECT loaded_at, lead(loaded_at) OVER (ORDER BY ids), seconds FROM spillway.ledger ORDER BY ids""").fetchall()
    assert len(spans) == 3
    assert all(after is None or (after - before).total_seconds() >= seconds for before, after, seconds in spans)
    assert table_rows(database) == flat_rows(ENTRIES[:60])
    assert spillway("backfill", path, "--parallel", "0")[0] != 0


def test_help_names_every_option(command_line: RunSpillway) -> None:
    code, out, _ = command_line("backfill", "--help")
    assert code == 0
    for option in ("--stream", "--archive", "--mapping", "--again", "--expired", "--dry-run", "--rate", "--parallel"):
        assert option in out
