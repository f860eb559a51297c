"""What finding ten streams costs in a Redis with millions of other keys:  python -m benchmarks.names

Redis's processor time and the seconds until the preflight of a drain has the names: with one SCAN per pattern (as
earlier releases did), with one for all patterns, and with the names of the last scan. Starts its own servers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from infra.servers.throwaway import throwaway_servers
from tasks.preflight.found_streams import FoundStreams
from tasks.streams.find import find_streams, scan_streams

PATTERNS = ["events:*", "orders:*", "clicks:*"]
_KEYS_AT_ONCE = 10_000


def fill(client: redis.Redis, keys: int) -> None:
    """Add `keys` other keys, and ten streams."""
    for first in range(0, keys, _KEYS_AT_ONCE):
        client.mset({f"session:{number}": "" for number in range(first, min(first + _KEYS_AT_ONCE, keys))})
    for number in range(10):
        client.xadd(f"{PATTERNS[number % 3][:-1]}{number}", {"event_type": "t"})


def cost(client: redis.Redis, find: Callable[[], Any], runs: int) -> tuple[float, float]:
    """The median seconds of `find`, and of Redis's processor time meanwhile."""
    walls, busy = [], []
    for _ in range(runs):
        before, began = _processor_seconds(client), time.monotonic()
        find()
        walls.append(time.monotonic() - began)
        busy.append(_processor_seconds(client) - before)
    return statistics.median(walls), statistics.median(busy)


def _processor_seconds(client: redis.Redis) -> float:
    used: dict[str, Any] = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def main(keys: int = 2_000_000, runs: int = 5, engine: str | None = None) -> None:
    """Print the cost of finding the streams."""
    with (
        throwaway_servers("bench", engine) as (settings, used),
        redis.Redis.from_url(settings.redis) as client,
        psycopg.connect(settings.database, autocommit=True) as db,
    ):
        fill(client, keys)

        def kept() -> None:
            found = FoundStreams(client, db, "benchmark", timedelta(hours=1))
            assert len(find_streams(client, PATTERNS, found.names)[0]) == 10
            found.save()

        kept()  # the scan
        ways: dict[str, Callable[[], Any]] = {
            "one SCAN per pattern": lambda: [scan_streams(client, [one]) for one in PATTERNS],
            "one SCAN": lambda: scan_streams(client, PATTERNS),
            "names of the last scan": kept,
        }
        table = Table(f"{keys:,} other keys, {used.name}", "ms", "ms of Redis's processor time")
        for name, find in ways.items():
            wall, busy = cost(client, find, runs)
            table.add_row(name, f"{wall * 1000:.1f}", f"{busy * 1000:.1f}")
        Console(width=110, highlight=False).print(table)


if __name__ == "__main__":
    typer.run(main)
