"""The names of runs, and how many loads run at the same time."""

from __future__ import annotations

import subprocess
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis

from flows import runs
from flows.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

DUE = datetime(2026, 11, 26, 10, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        (runs.drain_run_name, {"stream": "events-web"}, "drain events-web 10:05"),
        (runs.drain_run_name, {"stream": ["events-web"]}, "drain events-web 10:05"),
        (runs.drain_run_name, {"stream": ["a", "b", "c"]}, "drain a and 2 more 10:05"),
        (runs.drain_run_name, {"stream": None}, "drain scheduled streams 10:05"),
        (runs.drain_run_name, {"stream": "a\x1b[31m"}, "drain a\\x1b[31m 10:05"),
        (runs.reconcile_run_name, {"stream": "*", "deep": True, "repair": True}, "reconcile --deep --repair * 10:05"),
        (runs.maintain_run_name, {"dry_run": False}, "maintain 10:05"),
        (runs.maintain_run_name, {"dry_run": True}, "maintain --dry-run 10:05"),
        (runs.redrive_run_name, {"stream": None}, "redrive everything 10:05"),
        (runs.redrive_run_name, {"stream": ""}, "redrive everything 10:05"),
        (runs.redrive_run_name, {"stream": "events-web"}, "redrive events-web 10:05"),
        (runs.redrive_run_name, {"stream": "", "dry_run": True}, "redrive --dry-run everything 10:05"),
        (runs.backfill_run_name, {"archive": True}, "backfill archive 10:05"),
        (runs.backfill_run_name, {"stream": "events-web", "dry_run": True}, "backfill --dry-run events-web 10:05"),
        (runs.backfill_run_name, {"source": "/data/2025/"}, "backfill 2025 10:05"),
        (runs.backfill_run_name, {"source": ["/data/a.csv", "b.csv"]}, "backfill a.csv and 1 more 10:05"),
        (
            runs.backfill_run_name,
            {"source": "s3://key:secret@bucket/history.parquet?token=secret"},
            "backfill history.parquet 10:05",
        ),
    ],
)
def test_a_run_is_named_after_what_it_does_and_when_it_was_due(
    name: Callable[[], str], parameters: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "flow_run", SimpleNamespace(parameters=parameters, scheduled_start_time=DUE))
    assert name() == expected


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("parallel", [1, 3])
def test_as_many_loads_run_at_the_same_time_as_the_setting_says(
    parallel: int, configure: Callable[..., Settings], redis_client: redis.Redis, database: psycopg.Connection,
    stream: str,
) -> None:  # fmt: skip
    """The loads wait for a lock on `events`, so that they can be counted."""
    configure(parallel_loads=parallel, batch_rows=10)
    entries = [event(n) for n in range(100)]
    send(redis_client, stream, entries)
    with ThreadPoolExecutor(1) as executor, database.transaction():  # the lock is released first
        database.execute("LOCK TABLE events IN SHARE MODE")
        draining = executor.submit(drain, stream)
        wait_until(lambda: waiting_loads(database) >= parallel)
        time.sleep(1)  # for one more, if there were one
        assert waiting_loads(database) == parallel
    draining.result()
    assert table_rows(database) == flat_rows(entries)


def waiting_loads(database: psycopg.Connection) -> int:
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted"
    (row,) = database.execute(waiting).fetchall()
    return int(row[0])


_AWAY = """
from flows.drain import drain
drain("events")
"""
_DEFECT = """
from flows.runs import prefect_flow

def drain():
    raise ValueError("a defect")

prefect_flow(drain, "flows.drain", lambda: "drain")()
"""


def test_the_log_of_a_run_shows_the_traceback_of_a_defect_and_of_no_other_error(
    env: dict[str, str], prefect_server: str
) -> None:
    env |= {"PREFECT_API_URL": prefect_server, "PREFECT_LOGGING_LEVEL": "INFO"}
    env |= {"SPILLWAY_REDIS_URL": "redis://127.0.0.1:9/0", "SPILLWAY_RETRIES": "0"}
    known, with_debug = (_log_of(_AWAY, env | {"SPILLWAY_DEBUG": debug}) for debug in ("", "1"))
    for text in (known, with_debug):
        assert "Encountered exception during execution: Transient('preflight: Redis at 127.0.0.1:9: " in text
    assert "Traceback" not in known
    assert "preflight.py" in with_debug
    assert ", in drain\nValueError: a defect\n" in _log_of(_DEFECT, env)


def _log_of(script: str, env: dict[str, str]) -> str:
    """What Prefect logs of the run, without what Python prints at the end."""
    caught = f"try:{textwrap.indent(script, '    ')}\nexcept Exception: pass"
    done = subprocess.run([BIN / "python", "-c", caught], env=env, capture_output=True, text=True, check=True)
    return done.stderr
