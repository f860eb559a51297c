"""A steady flow of entries, drained every few seconds:  python -m benchmarks.steady

A producer adds entries at a fixed rate while `spillway serve --every 5s` drains. The first entry of each chunk is a
probe: its row is polled over a connection of its own, and its latency is from before the XADD until the row is visible.
Starts its own servers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.serving import Serving, cpu_seconds, serving
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings

STREAM = "bench-steady"
EVERY = 5.0  # seconds between drains
RATES = (1_000, 5_000)  # entries per second
P99_SECONDS = 8.0  # the most from XADD to the visible row, for 99 of 100 entries
_CHUNK_SECONDS = 0.1  # between the probes
_POLL_SECONDS = 0.05
_LEFT_SECONDS = 120.0  # the longest wait for the last rows
_VISIBLE = "SELECT event_id::text FROM events WHERE event_id = ANY(%s::uuid[])"


@dataclass
class Producer(threading.Thread):
    """Adds `rate` entries a second for `seconds`. `pending`: by event id, when each unseen probe was about to be sent.

    `behind`: the longest delay of a chunk in seconds; a large one makes the rate uneven.
    """

    settings: Settings
    rate: int
    seconds: float
    pending: dict[str, float] = field(default_factory=dict)
    sent: int = 0
    behind: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def run(self) -> None:
        """Send chunk by chunk, each at its time."""
        chunks = _chunks(int(self.rate * _CHUNK_SECONDS), self.rate)
        began = time.monotonic()
        with redis.Redis.from_url(self.settings.redis) as client:
            for number in count():
                due = began + number * _CHUNK_SECONDS
                if due - began >= self.seconds:
                    return
                chunk = next(chunks)
                time.sleep(max(0.0, due - time.monotonic()))
                now = time.monotonic()
                self.behind = max(self.behind, now - due)
                self.pending[chunk[0][b"event_id"].decode()] = now
                self.sent += send(client, STREAM, chunk)

    __hash__ = threading.Thread.__hash__


def _chunks(size: int, rate: int) -> Iterator[list[Any]]:
    for seed in count(rate):
        for batch in batches(50 * size, seed=seed, size=size):
            yield batch.entries


def measure(settings: Settings, rate: int, minutes: float) -> dict[str, Any]:
    """The latencies of the probes in seconds, and the ticks, at one rate."""
    with serving(settings, f"{EVERY:g}s", STREAM) as served, psycopg.connect(settings.database) as connection:
        connection.autocommit = True
        producer = Producer(settings, rate, minutes * 60)
        before = _row_count(connection)
        used, began = served.cpu_seconds(), time.monotonic()
        producer.start()
        found = _latencies(connection, producer)
        took = time.monotonic() - began
        used = served.cpu_seconds() - used
        return _summary(served, producer, found, used / took, _row_count(connection) - before)


def _latencies(connection: psycopg.Connection, producer: Producer) -> list[float]:
    """Poll until the producer has ended and each probe is visible."""
    found: list[float] = []
    ended = None
    while producer.is_alive() or producer.pending:
        if not producer.is_alive():
            ended = ended or time.monotonic()
            if time.monotonic() - ended > _LEFT_SECONDS:
                raise Terminal(f"{len(producer.pending)} rows are not visible after {_LEFT_SECONDS:g} s")
        visible = [event_id for (event_id,) in connection.execute(_VISIBLE, [list(producer.pending.copy())])]
        now = time.monotonic()
        found += [now - producer.pending.pop(event_id) for event_id in visible]
        time.sleep(_POLL_SECONDS)
    return sorted(found)


def _row_count(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM events").fetchone()
    assert row is not None  # an aggregate has one row
    rows: int = row[0]
    return rows


def _summary(served: Serving, producer: Producer, found: list[float], cores: float, rows: int) -> dict[str, Any]:
    recorded = served.runs()
    failed = served.prefect.query("SELECT count(*) FROM flow_run WHERE state_type IN ('FAILED', 'CRASHED')")
    prefect_cpu = cpu_seconds(served.prefect.pid)
    resident = served.resident_mb()
    ticks, runs, late = served.stop()
    if rows != producer.sent:
        raise Terminal(f"{producer.sent:,} entries were sent, {rows:,} rows are in the table")
    return {
        "rate": producer.rate,
        "minutes": round(producer.seconds / 60, 1),
        "sent": producer.sent,
        "producer_behind": round(producer.behind, 2),
        "probes": len(found),
        "p50": round(found[len(found) // 2], 2),
        "p99": round(found[len(found) * 99 // 100], 2),
        "max": round(found[-1], 2),
        "ticks": ticks,
        "late": late,
        "runs": runs,
        "recorded_runs": recorded,
        "failed": failed,
        "cores": round(cores, 2),
        "prefect_cpu_seconds": round(prefect_cpu, 1),
        "resident_mb": round(resident),
        "load": round(os.getloadavg()[1], 1),
    }


def measure_all(
    engine: str | None = None, minutes: float = 10, rates: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """`measure` at each of `rates`, by default `RATES`."""
    with throwaway_servers("bench", engine) as (settings, _):
        return [measure(settings, rate, minutes) for rate in rates or RATES]


def main(engine: str | None = None, minutes: float = 10, rate: list[int] | None = None) -> None:
    """Print the latencies at each rate."""
    console = Console(width=120, highlight=False)
    found = measure_all(engine, minutes, rate)
    table = Table("", *(f"{one['rate']:,}/s" for one in found))
    for name in found[0]:
        table.add_row(name.replace("_", " "), *(f"{one[name]:,}" for one in found))
    console.print(table)
    good = all(one["p99"] <= P99_SECONDS and not one["late"] and not one["failed"] for one in found)
    console.print("within the bar" if good else "OVER THE BAR")


if __name__ == "__main__":
    typer.run(main)
