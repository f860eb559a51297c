"""Several drains as processes of their own, against one:  python -m benchmarks.processes

Each process drains a stream of its own (`--one-stream`: all the same one). A row is one number of processes: wall time,
and the processor time of the clients, Redis and PostgreSQL per event. The processes are imported and connected before
the clock starts. Two tables: `events` with its five indexes, where the database does most of the work, and a table
of two columns without indexes, where the client does. (Spillway refuses a table that is not logged, and one that
throws its rows away.) Needs Linux.

On a machine with few cores the processes and the servers take the cores from each other. `--share 0.4` gives each
process so much of a core at most (it is stopped and continued every few milliseconds), so that a machine with more
cores, or slower ones, is imitated: what is left is what processes wait for each other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import LiteralString

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.processor_time import ServerClocks
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.support.tables import empty_tables

PROCESSES = (1, 2, 4)
TWO_ON_ONE = 1.8  # at least: the rate of two processes on one stream ÷ that of one
_SLICE_SECONDS = 0.01  # of a process with a share
_SINK: LiteralString = "CREATE TABLE sink (time timestamptz NOT NULL, kind text) WITH (autovacuum_enabled = off)"
_MAPPING = """
[streams."sink:*"]
table = "sink"
[streams."sink:*".columns]
time = "time"
kind = "event_type"
"""
EVENTS, SINK = "events", "sink"


@dataclass(frozen=True)
class Together:
    """Several processes at once: seconds, and processor time per event in microseconds. `load`: of the machine."""

    processes: int
    events: int
    wall: float
    client_us: float
    redis_us: float
    postgres_us: float
    load: float

    @property
    def rate(self) -> float:
        return self.events / self.wall


def work(pattern: str) -> None:
    """A process: get ready, wait for a line, drain, and print the processor time of the drain."""
    from flows.plain.drain import drain

    drain("no-such-stream*")  # what is imported and connected at the first use
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time()
    totals = drain(pattern)
    print(json.dumps({"read": totals["read"], "cpu": time.process_time() - began}), flush=True)


def together(config: Settings, streams: Sequence[str], events: int, folder: Path, share: float = 1.0) -> Together:
    """Drain the streams, one process for each name, all at once. `events`: in all streams together."""
    environment = os.environ | {
        "SPILLWAY_REDIS_URL": config.redis, "SPILLWAY_DATABASE_URL": config.database, "SPILLWAY_PARALLEL_LOADS": "2",
        "SPILLWAY_MAPPINGS": str(folder / "spillway.toml"), "PREFECT_API_URL": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "benchmarks.processes", "--work"]
    processes = [
        subprocess.Popen([*command, name], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in streams
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise Terminal("a process did not start")
    clocks = ServerClocks(config)
    before, began = clocks.now(), time.perf_counter()
    with _limited(processes, share):
        for process in processes:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        said = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    wall, spent = time.perf_counter() - began, clocks.now() - before
    if (read := sum(one["read"] for one in said)) != events:
        raise Terminal(f"the processes read {read} entries, expected {events}")
    per_event = [seconds / events * 1e6 for seconds in (sum(s["cpu"] for s in said), spent.redis, spent.postgres)]
    client_us, redis_us, postgres_us = per_event
    return Together(len(streams), events, wall, client_us, redis_us, postgres_us, os.getloadavg()[0])


@contextmanager
def _limited(processes: Sequence[subprocess.Popen[str]], share: float) -> Iterator[None]:
    """Let each process run only this share of the time."""
    ended = threading.Event()

    def limit(process: subprocess.Popen[str]) -> None:
        while not ended.wait(_SLICE_SECONDS * share) and process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(_SLICE_SECONDS * (1 - share))
            process.send_signal(signal.SIGCONT)

    threads = [threading.Thread(target=limit, args=[one]) for one in processes] if share < 1 else []
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def fill(config: Settings, names: Sequence[str], events: int) -> None:
    """Streams of so many generated events each."""
    with redis.Redis.from_url(config.redis) as client:
        for seed, name in enumerate(names):
            send(client, name, (entry for batch in batches(events, seed=seed) for entry in batch.entries))


def empty(config: Settings) -> None:
    """Empty the tables, the sink included, so that everything is drained again."""
    with psycopg.connect(config.database, autocommit=True) as connection:
        empty_tables(connection)
        connection.execute("DROP TABLE IF EXISTS sink")
        connection.execute(_SINK)
        connection.execute("CHECKPOINT")


def count(config: Settings, table: LiteralString) -> int:
    """Rows in a table."""
    with psycopg.connect(config.database) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names of our own
    assert row is not None
    return int(row[0])


def measure(
    config: Settings, table: LiteralString, events: int, rounds: int, one_stream: bool, share: float
) -> dict[int, list[Together]]:
    """For each number of processes, its rounds; the numbers take turns. `events`: of each stream."""
    numbers = PROCESSES[:2] if one_stream else PROCESSES
    prefix = "sink:" if table == SINK else "events:"
    names = [f"{prefix}{n}" for n in range(1 if one_stream else max(numbers))]
    fill(config, names, events)
    found: dict[int, list[Together]] = {number: [] for number in numbers}
    with TemporaryDirectory() as folder:
        (Path(folder) / "spillway.toml").write_text(_MAPPING)
        for _ in range(rounds):
            for number in numbers:
                empty(config)
                streams = names * number if one_stream else names[:number]
                total = events * len(set(streams))
                found[number].append(together(config, streams, total, Path(folder), share))
                if (rows := count(config, table)) != total:
                    raise Terminal(f"{rows} rows in {table}, expected {total}")
    with redis.Redis.from_url(config.redis) as client:
        client.delete(*names)
    return found


def show(console: Console, title: str, found: dict[int, list[Together]]) -> None:
    """Print the medians, and the rate of several processes next to that of one, from the pairs of each round."""
    table = Table(title, "events/s", "÷ one", "client µs", "Redis µs", "PostgreSQL µs", "all µs", "load")
    for number, runs in found.items():
        ratios = [run.rate / one.rate for run, one in zip(runs, found[1], strict=True)]
        c, r, p = (median([getattr(run, name) for run in runs]) for name in ("client_us", "redis_us", "postgres_us"))
        table.add_row(f"{number} processes", f"{median([run.rate for run in runs]):,.0f}",
                      f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{c:.2f}", f"{r:.2f}",
                      f"{p:.2f}", f"{c + r + p:.2f}", f"{median([run.load for run in runs]):.1f}")  # fmt: skip
    console.print(table)


def main(
    engine: str | None = None, events: int = 300_000, rounds: int = 3, one_stream: bool = False, share: float = 1.0,
    table: str = "", as_json: bool = False, work_on: str = typer.Option("", "--work", hidden=True),
) -> None:  # fmt: skip
    """Measure 1, 2 and 4 processes on streams of their own, or 1 and 2 on one stream, into each of the two tables."""
    if work_on:
        work(work_on)
        return
    console = Console(width=120, highlight=False)
    tables: tuple[LiteralString, ...] = (SINK, EVENTS)
    with throwaway_servers("bench", engine) as (config, used):
        for name in tables:
            if table and name != table:
                continue
            found = measure(config, name, events, rounds, one_stream, share)
            title = f"{name}, {used.name}, {'one stream' if one_stream else 'a stream each'}, share {share:g}"
            show(console, title, found)
            if as_json:
                print(json.dumps({number: [asdict(run) for run in runs] for number, runs in found.items()}))


if __name__ == "__main__":
    typer.run(main)
