"""Peak resident memory of `spillway drain`, a small backlog beside a large one:  python -m benchmarks.memory

Real servers of its own. The figure is the operating system's, of the drain's process alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import redis
import typer

from infra.producers.generate import batches
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings

MB = 1_000_000


def main(small: int = 200_000, large: int = 2_000_000, engine: str | None = None) -> None:
    """Print the peak of both and their ratio."""
    with throwaway_servers("bench", engine) as (settings, used):
        print(f"engine {used.name}, {os.cpu_count()} cores")
        peaks = [_peak(settings, events) for events in (small, large)]
    print(f"large / small: {peaks[1] / peaks[0]:.2f}")


def _peak(settings: Settings, events: int) -> int:
    with redis.Redis.from_url(settings.redis) as client:
        client.flushdb()
        for batch in batches(events, seed=1):
            send(client, "bench", batch.entries)
    env = os.environ | {"SPILLWAY_REDIS_URL": settings.redis, "SPILLWAY_DATABASE_URL": settings.database}
    command = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", "bench", "--json"]
    drain = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
    assert drain.stdout is not None
    said = drain.stdout.read()
    _, status, usage = os.wait4(drain.pid, 0)
    drain.returncode = os.waitstatus_to_exitcode(status)
    if drain.returncode:
        raise SystemExit(f"the drain failed with {drain.returncode}")
    result = json.loads(said.splitlines()[-1])
    with psycopg.connect(settings.database) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
        assert row == (events,), row
        connection.execute("TRUNCATE events, spillway.ledger, spillway.quarantine, spillway.streams")
    peak: int = usage.ru_maxrss * 1024
    print(f"{events:>9,} events: peak {peak / MB:.0f} MB, {result['events_per_second']:,} events/s")
    return peak


if __name__ == "__main__":
    typer.run(main)
