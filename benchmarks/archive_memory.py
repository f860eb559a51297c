"""Peak resident memory and speed of archiving a large chunk:  python -m benchmarks.archive_memory

Starts its own servers. The figure is the operating system's peak of a process that does nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import psycopg
import typer

from infra.connections.clients import postgres_connection
from infra.errors.exceptions import Terminal
from infra.servers.throwaway import throwaway_servers
from infra.settings import settings
from infra.tables.read_table import default_table_name, read_table
from tasks.table.chunks import Chunk

MB = 1_000_000
EVENTS = 2_000_000

# About 200 bytes per event, over the seven days of one chunk. No two have the same `properties`.
_FILL = """
    INSERT INTO events
    SELECT '2024-01-04'::timestamptz + i * (interval '7 days' / %(events)s), gen_random_uuid(),
           (ARRAY['page_view', 'click', 'purchase', 'signup', 'search'])[1 + i %% 5], 'user-' || hashint4(i) %% 50000,
           jsonb_build_object('url', '/products/' || i %% 997, 'session', md5(i::text), 'ms', i %% 3000,
                              'amount', i / 100.0)
      FROM generate_series(0, %(events)s - 1) AS i"""
_CHUNK = "SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks"


def measure(engine: str | None = None, events: int = EVENTS) -> dict[str, Any]:
    """The peak in MB, the seconds of each part, and the sizes of the archive and the table."""
    with throwaway_servers("bench", engine) as (config, used), tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(config.database, autocommit=True) as connection:
            # They do not take part in archiving, and would take most of the time to fill the table.
            connection.execute("DROP INDEX events_properties_idx, events_user_id_time_idx, events_event_type_time_idx")
            connection.execute(_FILL, {"events": events})
            size = connection.execute("SELECT hypertable_size('events')").fetchone()
        env = os.environ | {"SPILLWAY_DATABASE_URL": config.database, "SPILLWAY_ARCHIVE_URL": folder}
        command = [sys.executable, "-m", "benchmarks.archive_memory", "--here"]
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        assert child.stdout is not None
        said = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise Terminal(f"archiving ended with {child.returncode}")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        if found["rows"] != events:
            raise Terminal(f"archived {found['rows']} rows of {events}")
        table = {"table_mb": round(size[0] / MB)} if size else {}
        return {"engine": used.name, "peak_mb": round(usage.ru_maxrss * 1024 / MB)} | found | table


def _archive_here() -> dict[str, Any]:
    """Archive, verify and drop the only chunk of the database that the environment names."""
    from tasks.archive.archive_root import open_root
    from tasks.archive.drop_archived import drop_archived
    from tasks.archive.verify import verify
    from tasks.archive.write_chunk import archive_chunk

    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - began, 1)
        return result

    root = open_root(settings().archive_url)
    with postgres_connection(settings()) as connection:
        ((*chunk_row,),) = connection.execute(_CHUNK).fetchall()
        chunk = Chunk(*chunk_row)
        table = read_table(connection, default_table_name())
        manifest = timed("archive", lambda: archive_chunk(connection, table, chunk, root))
        timed("verify", lambda: verify(root, manifest))
        if (outcome := timed("drop", lambda: drop_archived(connection, table, chunk, manifest, root))) != "dropped":
            raise Terminal(f"expected the chunk to be dropped, found {outcome}")
    return {"rows": manifest.rows, "archive_mb": round(manifest.size / MB, 1), "seconds": seconds}


def main(engine: str | None = None, events: int = EVENTS, as_json: bool = False, here: bool = False) -> None:
    """Print the peak and the speed. `--here` is the measured process."""
    if here:
        print(json.dumps(_archive_here()))
        return
    found = measure(engine, events)
    if as_json:
        print(json.dumps(found))
        return
    rates = ", ".join(f"{name} {events / took:,.0f} events/s ({took} s)" for name, took in found["seconds"].items())
    print(f"{events:,} events: peak {found['peak_mb']} MB; {rates}; {found['table_mb']} MB of rows and key in"
          f" {found['archive_mb']} MB of files")  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
