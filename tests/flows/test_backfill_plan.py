"""What a backfill asks or refuses before it loads: rows past retention, many new chunks; and a dry run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tasks.base.progress import answer_with
from tests.support.backfill_sources import as_document, csv_text, flat_columns, ndjson, written
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, table_digest, table_rows
from tests.support.results import backfill_counts
from tests.support.stream_entries import event
from tests.support.triggers import failing_at, trigger

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
Entry = dict[bytes, bytes]


def aged(days: float, number: int) -> Entry:
    return event(number, time=(datetime.now(UTC) - timedelta(days=days)).isoformat())


OLD = [aged(40 + n, n) for n in range(30)]
NEW = [aged(1 + n % 20, 100 + n) for n in range(50)]


def written_state(connection: psycopg.Connection) -> dict[str, Any]:
    """Everything that Spillway writes."""
    tables = ("ledger", "streams", "files", "quarantine", "drops")
    found: dict[str, Any] = {
        name: connection.execute(f"SELECT * FROM spillway.{name} ORDER BY 1, 2").fetchall() for name in tables
    }
    chunks = "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name = 'events' ORDER BY 1"
    return found | {"events": table_digest(connection), "chunks": connection.execute(chunks).fetchall()}


@pytest.fixture
def path(tmp_path: Path, database: psycopg.Connection, configure: Configure) -> str:
    """A file with rows past the retention horizon, current rows, and two without a readable time."""
    configure(keep="30d")
    timeless = [event(200, time="never"), event(201, time="")]
    return written(tmp_path, "x.csv", csv_text(map(flat_columns, [*NEW[:25], *OLD, *timeless, *NEW[25:]])))


def test_rows_past_the_horizon_are_refused_with_their_count_and_the_choice(
    path: str, database: psycopg.Connection
) -> None:
    before = written_state(database)
    with pytest.raises(Terminal) as refused:
        backfill(path)
    for part in ("30 of 82 rows are older", "SPILLWAY_KEEP", "nothing was loaded", "--expired skip", "--expired load"):
        assert part in str(refused.value)
    assert written_state(database) == before


def test_skip_leaves_them_out_and_balances_and_load_loads_the_rest(path: str, database: psycopg.Connection) -> None:
    result = backfill(path, expired="skip")
    assert (backfill_counts(result), result["expired"]) == ((52, 50, 0, 2), 30)
    assert table_rows(database) == flat_rows(NEW)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 52)
    assert backfill_counts(backfill(path, expired="skip")) == (0, 0, 0, 0)
    with pytest.raises(Terminal, match="30 of 30 rows are older"):
        backfill(path)
    rest = backfill(path, expired="load")
    assert (backfill_counts(rest), rest["sources"][0]["state"]) == ((30, 30, 0, 0), "in part")
    assert table_rows(database) == flat_rows([*OLD, *NEW])
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 82)
    assert backfill_counts(backfill(path)) == (0, 0, 0, 0)


def test_while_skipped_rows_are_loaded_the_ledger_is_open_and_not_wrong(
    path: str, database: psycopg.Connection, configure: Configure
) -> None:
    """As after a kill: a gap remains, which the same backfill closes."""
    configure(batch_rows=4)
    backfill(path, expired="skip")
    with trigger(database, failing_at(OLD[9][b"event_id"].decode())), pytest.raises(Terminal, match="untouched"):
        backfill(path, expired="load", parallel=1)
    assert 50 < len(table_rows(database)) < 80
    assert {finding["what"] for finding in reconcile("file:*", fail=False)["findings"]} == {"gap"}
    backfill(path, expired="load")
    assert table_rows(database) == flat_rows([*OLD, *NEW])
    assert reconcile("file:*", deep=True)["balanced"]


def test_a_file_whose_rows_are_all_skipped_leaves_nothing(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(keep="30d")
    before = written_state(database)
    result = backfill(written(tmp_path, "x.csv", csv_text(map(flat_columns, OLD))), expired="skip")
    assert (backfill_counts(result), result["expired"]) == ((0, 0, 0, 0), 30)
    assert written_state(database) == before
    assert reconcile("*")["balanced"]


def test_entries_of_a_stream_are_not_left_out_one_by_one(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(keep="30d")
    send(redis_client, stream, [*OLD, *NEW])
    with pytest.raises(Terminal, match=r"30 of 80 rows are older"):
        backfill(stream=stream)
    with pytest.raises(Terminal, match=r"cannot be skipped; nothing was loaded: start at a later entry \(--since\)"):
        backfill(stream=stream, expired="skip")
    assert table_rows(database) == {}
    assert backfill_counts(backfill(stream=stream, expired="load")) == (80, 80, 0, 0)
    assert table_rows(database) == flat_rows([*OLD, *NEW])
    assert drain(stream)["read"] == 0


def scattered(tmp_path: Path, count: int) -> tuple[str, list[Entry]]:
    """A file with one row for each chunk."""
    entries = [event(n, time=f"{2005 + n // 10}-{1 + n % 10:02}-15T00:00:00Z") for n in range(count)]
    return written(tmp_path, "x.ndjson", ndjson(map(as_document, entries))), entries


def test_many_new_chunks_are_created_only_after_a_yes(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(max_new_chunks=9)
    path, entries = scattered(tmp_path, 10)
    before = written_state(database)
    with pytest.raises(Terminal, match=r"10 new chunks, more than SPILLWAY_MAX_NEW_CHUNKS \(9\); nothing was loaded"):
        backfill(path)
    asked: list[str] = []
    with answer_with(lambda question: bool(asked.append(question))), pytest.raises(Terminal, match="--yes"):
        backfill(path)
    assert ["10 new chunks" in question for question in asked] == [True]
    assert written_state(database) == before
    with answer_with(lambda _: True):
        result = backfill(path)
    assert (backfill_counts(result), result["chunks"]["new"]) == ((10, 10, 0, 0), 10)
    assert table_rows(database) == flat_rows(entries)
    assert len(written_state(database)["chunks"]) == 10


def test_with_yes_there_is_no_question(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    configure(max_new_chunks=3)
    path, entries = scattered(tmp_path, 5)
    code, _, err = spillway("backfill", path)
    assert code == 1
    assert "5 new chunks" in err
    assert table_rows(database) == {}
    assert spillway("backfill", path, "--yes")[0] == 0
    assert table_rows(database) == flat_rows(entries)
    # What is there is not new.
    more = [entry | {b"event_id": b"00000000-0000-0000-0000-0000000000ff"} for entry in entries]
    assert spillway("backfill", written(tmp_path, "y.csv", csv_text(map(flat_columns, more))))[0] == 0


def test_a_dry_run_reports_the_plan_and_changes_nothing(
    spillway: RunSpillway, redis_client: redis.Redis, path: str, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(20)])
    drain(stream)
    before = written_state(database), redis_client.dbsize(), redis_client.xinfo_stream(stream)
    code, out, _ = spillway("backfill", path, "--dry-run", "--json")
    result = json.loads(out.splitlines()[-1])
    assert (code, result["dry_run"], result["rows"], result["remaining"]) == (0, True, 82, 82)
    assert (result["expired"], result["read"], result["inserted"]) == (30, 0, 0)
    assert result["estimated_seconds"] >= 0
    assert result["chunks"]["new"] > 0
    code, out, _ = spillway("backfill", path, "--dry-run")
    assert code == 0
    for part in ("82 rows, 82 of them left to load", "30 rows are past the retention horizon", "nothing was loaded"):
        assert part in out
    assert spillway("backfill", "--stream", stream, "--dry-run")[0] == 0
    assert (written_state(database), redis_client.dbsize(), redis_client.xinfo_stream(stream)) == before


@pytest.mark.parametrize("bad", [{"user_id": "a\0b"}, {"event_type": random.Random(1).randbytes(4_000).hex()}])
def test_a_dry_run_has_no_estimate_if_the_server_rejects_a_row_of_the_sample(
    bad: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    """A value that the server rejects, or one too large for its index: both would go to quarantine."""
    rows = [*(event(n) for n in range(10)), event(10, **bad)]
    path = written(tmp_path, "x.ndjson", ndjson(map(as_document, rows)))
    result = backfill(path, dry_run=True)
    assert (result["remaining"], result["estimated_seconds"]) == (11, None)
    assert backfill_counts(backfill(path)) == (11, 10, 0, 1)


def test_a_dry_run_of_an_unknown_stream_changes_nothing(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(20)])
    before = written_state(database)
    result = backfill(stream=stream, dry_run=True)
    assert (result["remaining"], result["chunks"]["new"]) == (20, 1)
    assert written_state(database) == before


def test_implausible_times_are_not_in_the_plan_and_go_to_quarantine(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path, configure: Configure
) -> None:
    """Ticks of 100 ns, read as microseconds, are in a year that no calendar has."""
    configure(max_new_chunks=1)
    good = [event(n) for n in range(20)]
    times = ("638000000000000000", "133000000000000000", "1999999999000", "1980-01-01T00:00:00Z")
    rows = [*good, *(event(100 + n, time=time) for n, time in enumerate(times))]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, rows)))
    dry = backfill(path, dry_run=True)
    result = backfill(path)
    assert backfill_counts(result) == (24, 20, 0, 4)
    assert (dry["chunks"]["new"], result["chunks"]["new"]) == (1, 1)
    assert (result["first_day"], result["last_day"]) == ("2026-11-20", "2026-11-20")
    send(redis_client, stream, rows)
    assert backfill_counts(backfill(stream=stream)) == (24, 0, 20, 4)
    assert table_rows(database) == flat_rows(good)
