"""The cost of listing a large quarantine: python -m benchmarks.quarantine

Wall time of `group_entries` with 10,000 and with 1,000,000 waiting entries, and of 1,000,000 with a reason each.
How much this process grew from the first to the last. Wall time and peak memory of `spillway quarantine list`, from the
start of its process to its end, with 1,000,000 entries; and its processor time with that of the query.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import typer

from benchmarks.measure import processor_seconds
from infra.servers.throwaway import throwaway_servers
from tasks.table.quarantine import Selection, group_entries

FEW, MANY = 10_000, 1_000_000
LIMIT_S, LIMIT_MB, GROWTH_MB = 1.0, 150, 10
# Every reason quotes another value, so that grouping the whole reasons would give as many groups as entries.
_FILL = """
    INSERT INTO spillway.quarantine (stream, entry_id, fields, kind, field, reason)
    SELECT s.id, format('%%s-0', 1700000000000 + n),
           ARRAY['event_id', 'no-uuid-' || n, 'time', '2026-11-26T12:00:00Z', 'user_id', 'anna']::bytea[],
           CASE n %% 10 WHEN 0 THEN 'conflict' ELSE 'refused' END, 'event_id',
           CASE n %% 3 WHEN 0 THEN format('invalid input syntax for type uuid: "%%s" [22P02]', n)
                       ELSE format('expected a UUID, found ''no-uuid-%%s''', n) END
      FROM spillway.streams AS s, generate_series(%s::int, %s::int) AS n"""


def measure(engine: str | None = None, repeats: int = 5) -> dict[str, Any]:
    """The best seconds of a list with few and with many entries, and how many MB this process grew in between."""
    with throwaway_servers("bench", engine) as (settings, used):  # noqa: SIM117  the connection needs the settings
        with psycopg.connect(settings.database, autocommit=True) as connection:
            connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('bad', 0)")
            seconds, peaks, start = [], [], 1
            for count in (FEW, MANY):
                connection.execute(_FILL, [start, count])
                connection.execute("VACUUM ANALYZE spillway.quarantine")
                start = count + 1
                seconds.append(min(_once(connection, count) for _ in range(repeats)))
                peaks.append(_peak_mb())
            query_cpu_s = processor_seconds(connection)
            _once(connection, MANY)
            query_cpu_s = processor_seconds(connection) - query_cpu_s
            commands = [_command(settings.database) for _ in range(repeats)]
            connection.execute("UPDATE spillway.quarantine SET reason = 'reason ' || entry_id")
            connection.execute("VACUUM ANALYZE spillway.quarantine")
            start_time = time.perf_counter()
            groups = group_entries(connection, Selection(), 20).all_groups
            different_s = time.perf_counter() - start_time
            if groups != MANY:
                raise AssertionError(f"expected {MANY} groups, found {groups}")
            peaks.append(_peak_mb())
    return {
        "engine": used.name,
        "few_s": seconds[0],
        "many_s": seconds[1],
        "different_s": different_s,
        "grown_mb": round(peaks[-1] - peaks[0], 1),
        "command_s": min(seconds for seconds, _, _ in commands),
        "command_cpu_s": query_cpu_s + min(cpu for _, cpu, _ in commands),
        "command_mb": max(peak for _, _, peak in commands),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KB on Linux


def _command(database: str) -> tuple[float, float, float]:
    """The seconds of the command, its processor time, and its peak memory in MB: that of this process or more."""
    env = os.environ | {"SPILLWAY_DATABASE_URL": database}
    command = [str(Path(sys.executable).parent / "spillway"), "quarantine", "list"]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise AssertionError(f"the command ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, round(usage.ru_maxrss / 1024, 1)


def _once(connection: psycopg.Connection, count: int) -> float:
    start = time.perf_counter()
    summary = group_entries(connection, Selection(), 20)
    seconds = time.perf_counter() - start
    if (summary.entries, sum(group.count for group in summary.groups)) != (count, count):
        raise AssertionError(f"expected {count} entries in the groups, found {summary}")
    return seconds


def main(engine: str | None = None) -> None:
    """Print them."""
    found = measure(engine)
    print(f"{found['engine']}: a list of {FEW:,} entries: {found['few_s']:.3f} s; of {MANY:,}: {found['many_s']:.3f} s;"
          f" with as many reasons: {found['different_s']:.3f} s; the client grew by {found['grown_mb']} MB, at most"
          f" {GROWTH_MB}; the command takes {found['command_s']:.2f} s, {found['command_cpu_s']:.2f} s of CPU time"
          f" and {found['command_mb']} MB, at most {LIMIT_S:g} s and {LIMIT_MB} MB")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
