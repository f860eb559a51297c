"""A late backfill of real events against a bare COPY of them:  python -m benchmarks.backfill --engine system

Both load into the table that has the live events. The COPY sends prepared binary buffers over one connection, with the
server's defaults, into an uncompressed table. Spillway runs the whole flow, from the file to the table with every chunk
compressed again. Needs TimescaleDB Community.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable

import orjson
import psycopg
import redis
import typer
from rich.console import Console

from benchmarks.contenders import COPY_EVENTS, Workload, plain_drain
from benchmarks.measure import Spread
from benchmarks.workloads import REAL, documents
from flows.cli.prefect_api import require_prefect
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import PROJECT_ROOT, Settings, settings
from infra.tables.read_table import default_table_name, read_table
from tasks.base.progress import ProgressEvent, StepReached, subscribe
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tasks.maintain.chunk_states import chunk_states

LATE = REAL.with_name("bench_backfill_2020-09_2020-10.ndjson.gz")


def prepared(config: Settings) -> tuple[list[bytes], int]:
    """The late events as COPY buffers, each event once and in the order of the file, and their number."""
    seen: set[str] = set()
    entries = []
    with gzip.open(LATE) as lines:
        for line in lines:
            if (event := orjson.loads(line)["id"]) not in seen:
                seen.add(event)
                entries.append({b"data": line.rstrip(b"\n")})
    with redis.Redis.from_url(config.redis) as client:
        send(client, "crossref-late", entries)
        batches = Workload(config, "crossref-late", len(entries)).batches()
        client.delete("crossref-late")
    return [bytes(payload(batch.encoded.rows)) for batch in batches], len(entries)


def bare_copy(config: Settings, buffers: list[bytes]) -> float:
    """COPY over one connection, one transaction per buffer. Returns the time of the last commit."""
    with psycopg.connect(config.database, autocommit=True) as connection:
        for buffer in buffers:
            with connection.cursor().copy(COPY_EVENTS) as copy:
                copy.write(HEADER)
                copy.write(buffer)
                copy.write(TRAILER)
    return time.perf_counter()


def backfill_all(config: Settings) -> float:
    """Run the flow as `spillway backfill` does. Returns the time at which the last chunk was compressed.

    Prefect then ends the run, and waits up to a second for its heartbeat.
    """
    from flows.backfill import backfill

    ends: list[float] = []

    def note(news: ProgressEvent) -> None:
        if isinstance(news, StepReached):
            ends.append(time.perf_counter())

    with subscribe(note):
        result = backfill(str(LATE), mapping="crossref")
    if result["quarantined"] or result["inserted"] + result["duplicates"] != result["read"]:
        raise Terminal(f"the backfill went wrong: {result}")
    return ends[-1]


def prepare(workload: Workload, compressed: bool) -> None:
    """Load the live events into the table, uncompressed or compressed."""
    workload.empty()
    plain_drain(workload, 2)()
    with psycopg.connect(workload.settings.database, autocommit=True) as connection:
        if compressed:
            connection.execute(
                "ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_segmentby = '',"
                " timescaledb.compress_orderby = 'time DESC')"
            )
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('events') AS c")
        connection.execute("VACUUM ANALYZE events")
        connection.execute("CHECKPOINT")


def rows_and_open_chunks(config: Settings) -> tuple[int, int]:
    """The rows of the table, and its chunks that are not fully compressed."""
    with psycopg.connect(config.database) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
        states = chunk_states(connection, read_table(connection, default_table_name()))
    assert row is not None
    return row[0], sum(state.state != "compressed" for state in states)


def main(rounds: int = 3, engine: str | None = None) -> None:
    """Measure both, in turns."""
    console = Console(width=110, highlight=False)
    with throwaway_servers("bench", engine) as (config, used):
        os.environ |= {
            "SPILLWAY_DATABASE_URL": config.database,
            "SPILLWAY_REDIS_URL": config.redis,
            "SPILLWAY_MAPPINGS": str(PROJECT_ROOT / "spillway.toml"),
        }
        settings.cache_clear()
        workload = documents(config)
        buffers, unique = prepared(config)
        require_prefect()  # starts Prefect's temporary server, which later runs use
        works: dict[str, Callable[[], float]] = {
            "prepared COPY into rows": lambda: bare_copy(config, buffers),
            "spillway backfill, all compressed at the end": lambda: backfill_all(config),
        }
        found: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds):
            for name, work in works.items():
                compress = "backfill" in name
                prepare(workload, compress)
                before, _ = rows_and_open_chunks(config)
                began = time.perf_counter()
                found[name].append(unique / (work() - began))
                rows, open_chunks = rows_and_open_chunks(config)
                if rows - before != unique or (compress and open_chunks):
                    raise Terminal(f"{name}: {rows - before} rows more, expected {unique}; {open_chunks} chunks open")
                console.print(f"round {number + 1} of {rounds}: {name}: {found[name][-1]:,.0f} events/s")
        copy, ours = found.values()
        ratio = Spread.of([b / a for a, b in zip(copy, ours, strict=True)])
        console.print(
            f"{used.name}: {unique} events; backfill ÷ COPY {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        )


if __name__ == "__main__":
    typer.run(main)
