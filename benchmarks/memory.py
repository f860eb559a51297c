"""Peak resident memory of `spillway drain` for a small and a large backlog: python -m benchmarks.memory

Starts its own servers. The figure is the operating system's peak of the drain's process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis
import typer

from benchmarks.contenders import Workload
from benchmarks.workloads import flat
from infra.errors.exceptions import Terminal
from infra.servers.throwaway import throwaway_servers

MB = 1_000_000
SMALL, LARGE = 500_000, 5_000_000


def measure_apart(engine: str | None, large: int) -> dict[str, Any]:
    """Run `measure` in a small process: the peak of a child starts at the size of its parent."""
    command = [sys.executable, "-m", "benchmarks.memory", "--large", str(large), "--as-json"]
    said = subprocess.run([*command, *(["--engine", engine] if engine else [])], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(said.stdout.splitlines()[-1])
    return found


def measure(engine: str | None = None, small: int = SMALL, large: int = LARGE) -> dict[str, Any]:
    """The peaks in MB and the rates in events/s of both, and the ratio of the peaks."""
    with throwaway_servers("bench", engine) as (settings, used):
        found = []
        for events in (small, large):
            found.append(_drained(flat(settings, events)))
            with redis.Redis.from_url(settings.redis) as client:
                client.flushdb()
    backlogs = [{"events": e, "peak_mb": p, "rate": r} for e, (p, r) in zip((small, large), found, strict=True)]
    return {"engine": used.name, "backlogs": backlogs, "ratio": round(found[1][0] / found[0][0], 3)}


def _drained(workload: Workload) -> tuple[int, int]:
    config = workload.settings
    env = os.environ | {"SPILLWAY_REDIS_URL": config.redis, "SPILLWAY_DATABASE_URL": config.database}
    command = [str(Path(sys.executable).parent / "spillway"), "drain", "--stream", workload.stream, "--json"]
    drain = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert drain.stdout is not None
    said = drain.stdout.read()
    _, status, usage = os.wait4(drain.pid, 0)
    drain.returncode = os.waitstatus_to_exitcode(status)
    if drain.returncode or workload.count() != workload.events:
        raise Terminal(f"the drain ended with {drain.returncode} and {workload.count()} rows of {workload.events}")
    workload.empty()
    return round(usage.ru_maxrss * 1024 / MB), json.loads(said.splitlines()[-1])["events_per_second"]


def main(small: int = SMALL, large: int = LARGE, engine: str | None = None, as_json: bool = False) -> None:
    """Print both peaks and their ratio."""
    found = measure(engine, small, large)
    if as_json:
        print(json.dumps(found))
        return
    for backlog in found["backlogs"]:
        print(f"{backlog['events']:>9,} events: peak {backlog['peak_mb']} MB, {backlog['rate']:,} events/s")
    print(f"large / small: {found['ratio']}")


if __name__ == "__main__":
    typer.run(main)
