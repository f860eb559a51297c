"""What a drain of many small streams costs, next to one stream with the same events:  python -m benchmarks.busy_streams

Processor time of the client, PostgreSQL and Redis, warm, in turns. Starts its own servers; needs Linux, whose /proc
counts the time.
"""

from __future__ import annotations

import os
import statistics
from itertools import islice
from typing import Any

import psycopg
import redis
import typer

from benchmarks.scale import Clocks
from infra.errors.exceptions import Terminal
from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from infra.settings import settings as current_settings
from tests.support.tables import empty_tables

STREAMS, ENTRIES = 1_000, 100  # of each
RATIO = 2.5  # at most


def measure(
    engine: str | None = None, rounds: int = 3, streams: int = STREAMS, entries: int = ENTRIES
) -> dict[str, Any]:
    """Seconds of processor time of a drain of all streams, and of one of as many events in one stream."""
    with throwaway_servers("bench", engine) as (settings, used):
        os.environ |= {"SPILLWAY_REDIS_URL": settings.redis, "SPILLWAY_DATABASE_URL": settings.database}
        current_settings.cache_clear()
        clocks = Clocks(settings)
        runs = [(_drain(settings, clocks, streams, entries), _drain(settings, clocks, 1, streams * entries))
                for _ in range(rounds + 1)][1:]  # fmt: skip
    return {
        "engine": used.name,
        "many_s": statistics.median(many for many, _ in runs),
        "one_s": statistics.median(one for _, one in runs),
        "ratio": statistics.median(many / one for many, one in runs),
    }


def _drain(settings: Settings, clocks: Clocks, streams: int, entries: int) -> float:
    from flows.plain.drain import drain

    with (
        redis.Redis.from_url(settings.redis) as client,
        psycopg.connect(settings.database, autocommit=True) as connection,
    ):
        client.flushdb()
        empty_tables(connection)
        produced = (entry for batch in batches(streams * entries, seed=1) for entry in batch.entries)
        for number in range(streams):
            send(client, f"busy:{number}", list(islice(produced, 1)))
        drain("busy:*")  # a stream is registered and its sample checked once, not in each run
        for number in range(streams):
            send(client, f"busy:{number}", list(islice(produced, entries - 1)))
        connection.execute("CHECKPOINT")
    before = clocks.now()
    read = drain("busy:*")["read"]
    after = clocks.now()
    if read != streams * (entries - 1):
        raise Terminal(f"expected {streams * (entries - 1)} entries, found {read}")
    print(
        f"{streams} streams: " + ", ".join(f"{n} {getattr(after, n) - getattr(before, n):.2f} s" for n in vars(before))
    )
    return float(after.total - before.total)


def main(engine: str | None = None, rounds: int = 3, streams: int = STREAMS) -> None:
    """Print both, and their ratio."""
    found = measure(engine, rounds, streams)
    print(
        f"{found['engine']}: {streams} streams {found['many_s']:.2f} s, one stream {found['one_s']:.2f} s of processor"
        f" time: {found['ratio']:.2f} times, at most {RATIO}"
    )


if __name__ == "__main__":
    typer.run(main)
