"""A backfill that is stopped, or whose servers or disk fail, retries or reports it, and can be started again."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
import redis

from flows.reconcile import reconcile
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.engine import Service, StopMode
from tests.faults.histories import Entry, ledger_totals, shuffled_days, write
from tests.support.locks import loads_held
from tests.support.oracle import flat_rows, table_rows
from tests.support.processes import Drain, Harness
from tests.support.programs import BIN
from tests.support.redis_server import await_written
from tests.support.servers import Servers
from tests.support.waiting import wait_until

EVENTS = 20_000
LATEST = datetime(2024, 3, 1, tzinfo=UTC)
SMALL = {"SPILLWAY_BATCH_ROWS": "200"}
ONE = {"SPILLWAY_PARALLEL_LOADS": "1"}

_BACKFILL = Harness(flow="backfill")


def _history(events: int = EVENTS) -> list[Entry]:
    span = batches(events, seed=31, duplicates=0.01, start=LATEST, span_hours=24 * 20)
    return shuffled_days((entry for batch in span for entry in batch.entries), 5)


def _wait_for(database: psycopg.Connection, rows: int) -> None:
    wait_until(lambda: ledger_totals(database)[0] >= rows, every=0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_stopped_backfill_ends_with_a_short_message_and_the_same_command_resumes_it(
    number: signal.Signals, prefect_server: str, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    produced = _history()
    file = write(tmp_path / "history.parquet", produced)
    command = [str(BIN / "spillway"), "backfill", str(file)]
    run = subprocess.Popen(command, env=env | SMALL | ONE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    _wait_for(database, EVENTS // 10)
    with loads_held(database, sessions=1):
        run.send_signal(number)
    output = run.communicate(timeout=240)[0]
    assert run.returncode not in (0, None)
    assert 0 < ledger_totals(database)[0] < EVENTS
    if number == signal.SIGINT:
        assert run.returncode == 130
        assert "the same command continues" in output
    assert "Traceback" not in output
    assert len(output.splitlines()) <= 3, output
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert table_rows(database) == flat_rows(produced)
    assert ledger_totals(database)[0] == EVENTS
    assert reconcile("file:*", deep=True)["balanced"]


@pytest.mark.parametrize("how", ["fast", "immediate", "kill"])
def test_a_backfill_survives_a_restart_of_postgresql(
    how: StopMode,
    prefect_server: str,
    servers: Servers,
    env: dict[str, str],
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    _outlives("timescaledb", how, servers, env, database, tmp_path)


def test_a_backfill_of_files_does_not_need_redis(
    prefect_server: str, servers: Servers, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    _outlives("redis", "fast", servers, env, database, tmp_path)


def _outlives(
    service: Service, how: StopMode, servers: Servers, env: dict[str, str], database: psycopg.Connection, folder: Path
) -> None:
    if servers.engine is None:
        pytest.skip("the servers were given by URL: they cannot be stopped here")
    produced = _history()
    write(folder / "one.csv", produced[: EVENTS // 2])
    write(folder / "two.ndjson.gz", produced[EVENTS // 2 :])
    run = Drain(str(folder), env | SMALL, _BACKFILL)
    _wait_for(database, EVENTS // 10)
    servers.engine.stop(service, how)
    time.sleep(1.5)
    servers.engine.start(service)
    result = run.finished()
    assert "error" not in result, result
    _is_whole(servers, produced, EVENTS)


@pytest.mark.parametrize("how", ["fast", "kill"])
def test_a_backfill_of_a_stream_survives_a_restart_of_redis(
    how: StopMode, prefect_server: str, servers: Servers, env: dict[str, str], redis_client: redis.Redis,
    database: psycopg.Connection, stream: str,
) -> None:  # fmt: skip
    if servers.engine is None:
        pytest.skip("the servers were given by URL: they cannot be stopped here")
    produced = _history()
    send(redis_client, stream, produced)
    await_written(redis_client)
    run = Drain([], env | SMALL, _BACKFILL, stream=stream)
    _wait_for(database, EVENTS // 10)
    servers.engine.stop("redis", how)
    time.sleep(1.5)
    servers.engine.start("redis")
    result = run.finished()
    assert "error" not in result, result
    _is_whole(servers, produced, EVENTS)


def _is_whole(servers: Servers, produced: list[Entry], read: int) -> None:
    """Uses its own connection: others may not have survived the restart."""
    with psycopg.connect(servers.settings.database, autocommit=True) as again:
        expected = flat_rows(produced)
        assert table_rows(again) == expected
        assert ledger_totals(again) == (read, len(expected), read - len(expected), 0)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_before_anything_is_loaded(
    full_disk: Path, prefect_server: str, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    produced = _history(2_000)
    wide = [entry | {b"properties": b'{"text":"' + _noise(entry[b"event_id"]) + b'"}'} for entry in produced]
    file = write(tmp_path / "wide.parquet", wide)
    command = [str(BIN / "spillway"), "backfill", str(file)]
    small = env | {"TMPDIR": str(full_disk), "SPILLWAY_RETRIES": "1"}
    done = subprocess.run(command, env=small, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    output = " ".join(done.stderr.split())
    assert str(full_disk) in output
    assert "No space left" in output
    assert ledger_totals(database) == (0, 0, 0, 0)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ledger_totals(database)[0] == len(produced)
    assert table_rows(database) == flat_rows(wide)


def _noise(seed: bytes) -> bytes:
    """Text of 150 kB that hardly compresses."""
    return hashlib.shake_128(seed).hexdigest(75_000).encode()
