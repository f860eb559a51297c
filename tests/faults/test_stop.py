"""A command that is stopped while it waits for a lock ends, although nobody releases the lock, and loses nothing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from flows.plain.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.faults.histories import write
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN
from tests.support.proxy import Proxy
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

# Without the signal's help each of them would wait for an hour.
PATIENT = {"lock_timeout": 3600, "statement_timeout": 3600}
ENDS_WITHIN_SECONDS = 240  # a guard: a tenth of that hour, on any machine
_WAITING = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted"
_ENDED = """
    SELECT count(*) = 0 FROM pg_stat_activity
     WHERE application_name LIKE 'spillway%' AND datname = current_database()"""


@dataclass
class Work:
    """A command that waits for a lock on `events`, and the entries that are rows once it has ended."""

    arguments: list[str]
    entries: list[dict[bytes, bytes]]
    lock: str = "SHARE"


def _drain(client: redis.Redis, _: Path) -> Work:
    entries = [event(n) for n in range(300)]
    send(client, "stop:a", entries)
    return Work(["drain", "--stream", "stop:a"], entries)


def _drain_small_streams(client: redis.Redis, _: Path) -> Work:
    entries = [event(n) for n in range(80)]
    for at in range(4):
        send(client, f"stop:{at}", entries[at * 20 : at * 20 + 10])
    drain("stop:*")
    for at in range(4):
        send(client, f"stop:{at}", entries[at * 20 + 10 : at * 20 + 20])
    return Work(["drain", "--stream", "stop:*"], entries)


def _redrive(client: redis.Redis, _: Path) -> Work:
    send(client, "stop:a", [event(0), *(event(n, user_id="") for n in range(1, 20))])
    drain(
        "stop:a",
    )
    repaired = [event(0), *(event(n, user_id="anna") for n in range(1, 20))]
    return Work(["quarantine", "redrive", "--stream", "stop:a", "--set", "user_id=anna"], repaired)


def _backfill(_: redis.Redis, folder: Path) -> Work:
    entries = [event(n) for n in range(300)]
    return Work(["backfill", str(write(folder / "history.csv", entries)), "--yes"], entries)


def _reconcile(client: redis.Redis, folder: Path) -> Work:
    entries = _drain(client, folder).entries
    drain("stop:a")
    return Work(["reconcile", "--stream", "stop:a", "--deep"], entries, "ACCESS EXCLUSIVE")


@pytest.mark.parametrize(
    ("prepare", "with_prefect", "signals"),
    [
        (_drain, False, [signal.SIGINT]),
        (_drain, False, [signal.SIGINT, signal.SIGINT]),  # somebody is impatient
        (_drain, False, [signal.SIGTERM]),
        (_drain, True, [signal.SIGINT]),
        (_drain, True, [signal.SIGTERM]),
        (_drain_small_streams, False, [signal.SIGTERM]),
        (_redrive, False, [signal.SIGTERM]),
        (_backfill, False, [signal.SIGTERM]),
        (_reconcile, False, [signal.SIGINT]),
        (_reconcile, False, [signal.SIGTERM]),
        (_reconcile, True, [signal.SIGTERM]),
    ],
)
def test_a_command_that_waits_for_a_lock_ends_when_it_is_stopped(
    prepare: Callable[[redis.Redis, Path], Work],
    with_prefect: bool,
    signals: list[signal.Signals],
    prefect_server: str,
    configure: Callable[..., Settings],
    env: dict[str, str],
    redis_client: redis.Redis,
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    configure(max_bad_share=1)
    work = prepare(redis_client, tmp_path)
    before = table_rows(database)
    api = {"PREFECT_API_URL": prefect_server if with_prefect else ""}
    with database.transaction():
        database.execute(f"LOCK TABLE events IN {work.lock} MODE".encode())
        stop_while_it_waits(work, signals, env | api, database)
    wait_until(lambda: database.execute(_ENDED).fetchone() == (True,))
    assert table_rows(database) == before
    check_next_run(work, env, database)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_drain_ends_when_it_is_stopped_although_the_database_has_gone_silent(
    number: signal.Signals,
    env: dict[str, str],
    redis_client: redis.Redis,
    database: psycopg.Connection,
    tmp_path: Path,
) -> None:
    work = _drain(redis_client, tmp_path)
    with Proxy("127.0.0.1", database.info.port) as net:
        url = env["SPILLWAY_DATABASE_URL"].replace(f":{database.info.port}/", f":{net.port}/")
        with database.transaction():
            database.execute("LOCK TABLE events IN SHARE MODE")
            away = env | {"SPILLWAY_DATABASE_URL": url, "PREFECT_API_URL": ""}
            stop_while_it_waits(work, [number], away, database, net.stall)
    wait_until(lambda: database.execute(_ENDED).fetchone() == (True,))
    check_next_run(work, env, database)


def stop_while_it_waits(
    work: Work,
    signals: Sequence[signal.Signals],
    env: dict[str, str],
    database: psycopg.Connection,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Run a command until it waits for the lock, call `before`, stop it by signals, and wait for its end."""
    patient = env | {f"SPILLWAY_{name.upper()}": str(value) for name, value in PATIENT.items()}
    command = [BIN / "spillway", *work.arguments]
    run = subprocess.Popen(command, env=patient, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: run.poll() is not None or database.execute(_WAITING).fetchone() == (True,))
    before()
    for number in signals:
        run.send_signal(number)
        time.sleep(1)
    output, _ = run.communicate(timeout=ENDS_WITHIN_SECONDS)
    # Prefect ends its process by the signal itself.
    assert run.returncode in ([130] if signal.SIGINT in signals else [143, -signal.SIGTERM]), output
    assert "Traceback" not in output
    assert "error ignored" not in output


def check_next_run(work: Work, env: dict[str, str], database: psycopg.Connection) -> None:
    """The same command, typed again, does what is left."""
    done = subprocess.run([BIN / "spillway", *work.arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert table_rows(database) == flat_rows(work.entries)
    assert reconcile("*", deep=True)["balanced"]
