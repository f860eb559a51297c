"""Whether ticks of `spillway serve --every` that find nothing leak:  python -m benchmarks.tick_memory

The ticks follow each other without a pause, in this process, on one drained stream. Starts its own servers.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import redis
import typer

from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import settings

STREAM = "bench-ticks"
_WARM_UP = 100  # ticks before the first look at the memory


def main(engine: str | None = None, ticks: int = 2_000) -> None:
    """Print the resident memory after the first ticks and after the last ones, and the processor time of a tick."""
    with throwaway_servers("bench", engine) as (config, _):
        os.environ |= {"SPILLWAY_REDIS_URL": config.redis, "SPILLWAY_DATABASE_URL": config.database}
        settings.cache_clear()
        from flows.drain_loop import DrainLoop
        from flows.plain.drain import drain

        with redis.Redis.from_url(config.redis) as client:
            for batch in batches(1_000, seed=1):
                send(client, STREAM, batch.entries)
        drain(STREAM)
        with DrainLoop(config, 1.0, {"stream": [STREAM]}) as loop:
            for _ in range(_WARM_UP):
                loop.tick()
            before, used = _resident_mb(), time.process_time()
            for _ in range(ticks):
                loop.tick()
            used = time.process_time() - used
            print(f"{before:.1f} MB after {_WARM_UP} ticks, {_resident_mb():.1f} MB after {ticks:,} more;", end=" ")
            print(f"{used / ticks * 1e3:.1f} ms of processor time a tick; {loop.runs} runs")


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    typer.run(main)
