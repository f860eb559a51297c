"""A live drain with and without a backfill at full speed: python -m benchmarks.backfill_beside

Two scenarios, each with and without the backfill, in turns. A full backlog: the rate at which it is drained. A steady
stream that is drained again and again: the lag. Starts its own servers; each part is a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import redis
import typer
from rich.console import Console

from benchmarks.measure import Spread
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.support.tables import empty_tables

BACKLOG = 200_000
RATE = 4_000  # events/s of the steady stream
SECONDS = 15.0  # of each measurement
HISTORY = 3_000_000  # rows of the backfill: more than it loads in one measurement
STREAM = "bench-live"
_DRAINED = """
    SELECT coalesce(sum(read), 0)::bigint FROM spillway.ledger
     WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""
_BACKFILLED = """
    SELECT coalesce(sum(read), 0)::bigint FROM spillway.ledger
     WHERE stream IN (SELECT id FROM spillway.streams WHERE name LIKE 'file:%')"""


class Bench:
    """Servers, and a file of history."""

    def __init__(self, settings: Settings, history: Path) -> None:
        self._settings = settings
        self._history = history
        self._env = os.environ | {"SPILLWAY_DATABASE_URL": settings.database, "SPILLWAY_REDIS_URL": settings.redis}

    def backlog(self, events: int, beside: bool) -> dict[str, float]:
        """Drain a backlog. Returns its rate in events/s, and that of the backfill during the drain's process."""
        self._empty()
        with redis.Redis.from_url(self._settings.redis) as client:
            send(client, STREAM, (entry for batch in batches(events, seed=1) for entry in batch.entries))
        with self._backfilling(beside):
            before, began = self._count(_BACKFILLED), time.monotonic()
            command = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", STREAM, "--json"]
            done = subprocess.run(command, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            result = json.loads(done.stdout.splitlines()[-1])
            loaded = (self._count(_BACKFILLED) - before) / (time.monotonic() - began)
        if result["read"] != events:
            raise Terminal(f"the drain read {result['read']} of {events}")
        return {"rate": result["events_per_second"], "backfill": loaded}

    def steady(self, rate: int, seconds: float, beside: bool) -> dict[str, float]:
        """Drain a steady stream again and again. Returns the longest and mean lag in s, and the drain rate."""
        self._empty()
        entries = (entry for batch in batches(round(rate * seconds), seed=1) for entry in batch.entries)
        with redis.Redis.from_url(self._settings.redis) as client, self._backfilling(beside):
            send(client, STREAM, batches(1, seed=2).__next__().entries)
            with self._draining():
                before = self._count(_BACKFILLED)
                began = time.monotonic()
                sent, lags = 0, []
                while (passed := time.monotonic() - began) < seconds:
                    due = list(islice(entries, max(0, round(passed * rate) - sent)))
                    sent += send(client, STREAM, due) if due else 0
                    lags.append((sent + 1 - self._count(_DRAINED, STREAM)) / rate)
                    time.sleep(0.05)
                loaded = self._count(_BACKFILLED) - before
                drained = self._count(_DRAINED, STREAM) - 1
        return {
            "rate": drained / seconds,
            "longest_lag": max(lags),
            "mean_lag": sum(lags) / len(lags),
            "backfill": loaded / seconds,
        }

    @contextmanager
    def _draining(self) -> Iterator[None]:
        """While the block runs, one process drains again and again. The block starts after its first drain."""
        command = [sys.executable, "-m", "benchmarks.backfill_beside", "--drains"]
        with _killed_at_the_end(command, self._env):
            self._wait(_DRAINED, STREAM)
            yield

    @contextmanager
    def _backfilling(self, wanted: bool) -> Iterator[None]:
        """While the block runs, a backfill loads. It is killed at the end, and must still have work to do then."""
        if not wanted:
            yield
            return
        command = [str(Path(sys.executable).parent / "spillway"), "backfill", str(self._history)]
        with _killed_at_the_end(command, self._env) as backfill:
            self._wait(_BACKFILLED)
            yield
            if backfill.poll() is not None:
                raise Terminal("the backfill had ended before the drain had: give it more rows")

    def _wait(self, query: str, *parameters: str) -> None:
        deadline = time.monotonic() + 180
        while not self._count(query, *parameters):
            if time.monotonic() > deadline:
                raise Terminal("it does not begin to load")
            time.sleep(0.05)

    def _count(self, query: str, *parameters: str) -> int:
        with psycopg.connect(self._settings.database) as connection:
            row = connection.execute(query.encode(), parameters or None).fetchone()
        assert row is not None  # an aggregate has one row
        return int(row[0])

    def _empty(self) -> None:
        with redis.Redis.from_url(self._settings.redis) as client:
            client.flushdb()
        with psycopg.connect(self._settings.database, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '60s'")
            empty_tables(connection)
            connection.execute("CHECKPOINT")


@contextmanager
def _killed_at_the_end(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end, together with Prefect's temporary server, which would survive it."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=env, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it has ended with all its children
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _drain_again_and_again() -> None:
    """Drain again and again, until the process is killed."""
    from flows.environment import set_prefect_defaults

    set_prefect_defaults(quiet=True)
    from flows.drain import drain

    while True:
        drain(STREAM)
        time.sleep(0.2)


def measure(
    engine: str | None = None, rounds: int = 3, history: int = HISTORY, say: Console | None = None
) -> dict[str, Any]:
    """The figures of each round for both scenarios, alone and with the backfill, and the ratios of the rates (with ÷
    alone)."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    with throwaway_servers("bench", engine) as (config, used), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.parquet"
        command = [sys.executable, "-m", "benchmarks.backfill_memory", "--write", str(path), "--order", "no order"]
        subprocess.run([*command, "--events", str(history)], check=True)
        bench = Bench(config, path)
        for number in range(rounds):
            for beside in (False, True):
                runs = {"backlog": bench.backlog(BACKLOG, beside), "steady": bench.steady(RATE, SECONDS, beside)}
                for way, run in runs.items():
                    key = "beside" if beside else "alone"
                    found.setdefault(way, {}).setdefault(key, []).append(run)
                    if say is not None:
                        figures = ", ".join(f"{name} {figure:,.2f}" for name, figure in run.items())
                        say.print(f"round {number + 1} of {rounds}: {way}, {key}: {figures}")
    ratios = {way: _ratio(runs["beside"], runs["alone"]) for way, runs in found.items()}
    return {"engine": used.name, "at": datetime.now(UTC).isoformat(timespec="seconds"), **found, "ratios": ratios}


def _ratio(beside: Sequence[dict[str, float]], alone: Sequence[dict[str, float]]) -> dict[str, float]:
    spread = Spread.of([a["rate"] / b["rate"] for a, b in zip(beside, alone, strict=True)])
    return {"median": round(spread.median, 3), "low": round(spread.low, 3), "high": round(spread.high, 3)}


def main(
    engine: str | None = None,
    rounds: int = 3,
    history: int = HISTORY,
    as_json: bool = False,
    drains: bool = False,
) -> None:
    """Print both ratios and the lags. `--drains` is a process of the benchmark."""
    if drains:
        _drain_again_and_again()
    console = Console(width=140, highlight=False)
    found = measure(engine, rounds, history, None if as_json else console)
    if as_json:
        print(json.dumps(found))
        return
    for way, ratio in found["ratios"].items():
        console.print(f"{way}: drained beside a backfill ÷ alone {ratio['median']} ({ratio['low']} to {ratio['high']})")
    for key in ("alone", "beside"):
        lags = [run["longest_lag"] for run in found["steady"][key]]
        console.print(f"steady, {RATE:,} events/s, {key}: longest lag {', '.join(f'{lag:.1f}' for lag in lags)} s")


if __name__ == "__main__":
    typer.run(main)
