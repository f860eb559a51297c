"""Peak resident memory and steadiness of a backfill of a large Parquet file:  python -m benchmarks.backfill_memory

Two files of the same size over the same days: one ordered by time, one unordered. Starts its own servers. The memory is
the operating system's peak of `spillway backfill`. The rates come from the commit times in the ledger. For comparison,
the same slices are sent as prepared COPY buffers by as many connections: this shows how the rate of the server itself
changes as its table grows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import psycopg
import typer

from benchmarks.contenders import COPY_EVENTS
from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import BUILT_IN
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings, settings
from infra.tables.read_table import default_table_name, read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import EVERY_TIME
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tasks.columns.row_layout import bind
from tasks.files.file_reader import FileReader
from tasks.files.find import find_files
from tasks.files.scan import scan
from tasks.files.spool import Spool
from tests.support.tables import empty_tables

MB = 1_000_000
EVENTS = 5_000_000
DAYS = 100
ORDERS = ("order of time", "no order")
_START = datetime(2024, 1, 4, tzinfo=UTC)
_ROWS = 100_000  # generated at a time
# The number of rows committed up to each commit time.
_PROGRESS = """
    SELECT committed, sum(read) OVER (ORDER BY committed)
      FROM (SELECT extract(epoch FROM loaded_at)::float8 + seconds AS committed, read FROM spillway.ledger) AS slices
     ORDER BY 1"""


def make(path: Path, events: int, order: str) -> None:
    """Write a Parquet file of rows of about 200 bytes over `DAYS` days."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = np.random.default_rng(3)
    step = DAYS * 86_400_000_000 // events
    numbers = np.arange(events, dtype=np.int64)
    if order != ORDERS[0]:
        chance.shuffle(numbers)
    kinds = np.array(["page_view", "click", "purchase", "signup", "search"])
    names = ["event_id", "event_type", "user_id", "time", "properties"]
    schema = pa.schema([(name, pa.timestamp("us", "UTC") if name == "time" else pa.string()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, events, _ROWS):
            part = numbers[first : first + _ROWS]
            raw = [chance.bytes(16).hex() for _ in part]
            columns = [
                pa.array([f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}" for h in raw]),
                pa.array(kinds[part % 5]),
                pa.array([f"user-{n * 7919 % 50_000}" for n in part.tolist()]),
                pa.array(part * step + round(_START.timestamp() * 1e6), pa.timestamp("us", "UTC")),
                pa.array(
                    f'{{"url":"/products/{n % 997}","session":"{h[:24]}","ms":{n % 3000},"amount":{n / 100}}}'
                    for n, h in zip(part.tolist(), raw, strict=True)
                ),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def tenths(moments: list[tuple[float, int]], began: float) -> list[float]:
    """The rate in rows/s of each tenth of the rows, from pairs of commit time and rows committed until then."""
    total = moments[-1][1]
    passed = [began]
    for tenth in range(1, 11):
        wanted = total * tenth / 10
        before = (began, 0)
        for moment in moments:
            if moment[1] >= wanted:
                share = (wanted - before[1]) / max(1, moment[1] - before[1])
                passed.append(before[0] + share * (moment[0] - before[0]))
                break
            before = moment
    return [total / 10 / max(1e-6, passed[i + 1] - passed[i]) for i in range(10)]


def measure(engine: str | None = None, events: int = EVENTS) -> dict[str, Any]:
    """For each order: the peak in MB, the seconds, and the rate of each tenth in rows/s."""
    found: dict[str, Any] = {}
    for order in ORDERS:
        with throwaway_servers("bench", engine) as (config, used), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "history.parquet"
            command = [sys.executable, "-m", "benchmarks.backfill_memory", "--write", str(path), "--order", order]
            subprocess.run([*command, "--events", str(events)], check=True)
            found[order] = {"engine": used.name, "file_mb": round(path.stat().st_size / MB)}
            found[order] |= _backfilled(config, path, events)
            # In a child process: the memory of all buffers would otherwise count as the peak of the next child.
            env = os.environ | {"SPILLWAY_DATABASE_URL": config.database}
            copied = subprocess.run([*command[:3], "--copy", str(path)], env=env, check=True, stdout=subprocess.PIPE)
            found[order] |= json.loads(copied.stdout)
    return found


def _backfilled(config: Settings, path: Path, events: int) -> dict[str, Any]:
    env = os.environ | {
        "SPILLWAY_DATABASE_URL": config.database,
        "SPILLWAY_REDIS_URL": config.redis,
        "TMPDIR": str(path.parent),
    }
    command = [str(Path(sys.executable).parent / "spillway"), "backfill", str(path), "--json"]
    child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise Terminal(f"the backfill ended with {child.returncode}")
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    with psycopg.connect(config.database) as connection:
        rows = connection.execute("SELECT count(*) FROM events").fetchone()
        first = connection.execute("SELECT extract(epoch FROM min(loaded_at))::float8 FROM spillway.ledger").fetchone()
        moments = [(float(at), int(count)) for at, count in connection.execute(_PROGRESS)]
    if rows != (events,) or first is None or result["inserted"] != events:
        raise Terminal(f"expected {events} rows, found {rows}: {result}")
    rates = tenths(moments, float(first[0]))
    return {
        "peak_mb": round(usage.ru_maxrss * 1024 / MB),
        "seconds": round(result["seconds"], 1),
        "loading_seconds": round(moments[-1][0] - float(first[0]), 1),
        "rates": [round(rate) for rate in rates],
        "last_to_first": round(rates[-1] / rates[0], 3),
    }


def copied(config: Settings, path: Path) -> dict[str, Any]:
    """The rate of each tenth for the same slices as prepared buffers, into the emptied table."""
    slices = _prepared(config, path)
    with psycopg.connect(config.database, autocommit=True) as connection:
        empty_tables(connection)
        connection.execute("CHECKPOINT")
    local = threading.local()
    connections: list[psycopg.Connection] = []

    def connect() -> None:
        local.connection = psycopg.connect(config.database, autocommit=True)
        connections.append(local.connection)

    def send(part: tuple[int, bytes]) -> tuple[float, int]:
        rows, data = part
        with local.connection.cursor().copy(COPY_EVENTS) as copy:
            for piece in (HEADER, data, TRAILER):
                copy.write(piece)
        return time.time(), rows

    began = time.time()
    with ThreadPoolExecutor(config.parallel_loads, initializer=connect) as pool:
        done = sorted(pool.map(send, slices))
    for connection in connections:
        connection.close()
    sums = accumulate(rows for _, rows in done)
    rates = tenths([(at, total) for (at, _), total in zip(done, sums, strict=True)], began)
    return {"copy_rates": [round(rate) for rate in rates], "copy_last_to_first": round(rates[-1] / rates[0], 3)}


def _prepared(config: Settings, path: Path) -> list[tuple[int, bytes]]:
    """The slices in the order of a backfill: the number of rows and the COPY buffer of each."""
    (file,) = find_files(str(path))
    with closing(Spool()) as spool:
        with psycopg.connect(config.database) as connection:
            scanned = scan(file, bind(BUILT_IN, read_table(connection, default_table_name())), spool)
        limits = BatchLimits(config.batch_rows, config.batch_bytes)
        gaps = [IdRange(0, scanned.end)]
        reader = FileReader(scanned.ledger_name, scanned.section, gaps, limits, scanned.layout, EVERY_TIME)
        batches: Iterable[Batch] = iter(reader.read, None)
        return [(len(batch.encoded.rows), bytes(payload(batch.encoded.rows))) for batch in batches]


def main(
    engine: str | None = None,
    events: int = EVENTS,
    as_json: bool = False,
    write: Path | None = None,
    copy: Path | None = None,
    order: str = ORDERS[0],
) -> None:
    """Print the peak and the rates of both orders. `--write` and `--copy` are child processes."""
    if write is not None:
        make(write, events, order)
        return
    if copy is not None:
        print(json.dumps(copied(settings(), copy)))
        return
    found = measure(engine, events)
    if as_json:
        print(json.dumps(found))
        return
    for name, one in found.items():
        rate = events / one["seconds"]
        print(
            f"{events:,} rows in {name} ({one['file_mb']} MB over {DAYS} days): peak {one['peak_mb']} MB;"
            f" {one['seconds']} s, {rate:,.0f} rows/s\n  tenths: {_thousands(one['rates'])} rows/s, last ÷ first"
            f" {one['last_to_first']}\n  of the prepared COPY: {_thousands(one['copy_rates'])} rows/s, last ÷ first"
            f" {one['copy_last_to_first']}"
        )


def _thousands(rates: list[int]) -> str:
    return ", ".join(f"{rate:,}" for rate in rates)


if __name__ == "__main__":
    typer.run(main)
