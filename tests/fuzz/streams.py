"""Streams of raw entries: added to Redis, drained without Prefect, and deleted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from random import Random

import psycopg
import redis

from infra.connections.clients import Clients
from infra.mapping.toml import load_mappings
from infra.tables.read_table import default_table_name, read_table
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.columns.row_layout import bind
from tasks.ledger.plan import make_plan
from tasks.streams.reader import Reader
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tests.support.tables import delete_ledger_rows

# Plausible event times, in microseconds since 1970. The settings are computed for them, whatever the clock says.
EARLIEST, LATEST = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**6 for year in (2025, 2100))


def settings_of_the_window() -> dict[str, float]:
    now = time.time()
    return {"max_age_days": (now - EARLIEST / 1e6) / 86_400, "max_ahead_days": (LATEST / 1e6 - now) / 86_400}


def ids(random: Random) -> Iterator[str]:
    """Ids like those of real streams: several in a millisecond, gaps, and sequence numbers of any size."""
    milliseconds, sequence = 1, 0
    while True:
        if random.random() < 0.5:
            sequence += random.choice((1, 1, 7, 2**40))
        else:
            milliseconds, sequence = milliseconds + random.choice((1, 3, 10**6)), random.choice((0, 0, 5, 2**63))
        yield f"{milliseconds}-{sequence}"


def add(client: redis.Redis, stream: str, entries: Iterable[tuple[str, list[bytes]]]) -> None:
    """Add `entries` with their ids. The client's `xadd` takes a dict, but here a field may occur twice."""
    left = iter(entries)
    while some := list(islice(left, 500)):
        with client.pipeline(transaction=False) as pipeline:
            for entry_id, fields in some:
                pipeline.execute_command("XADD", stream, entry_id, *fields)
            pipeline.execute()


def drain_plainly(clients: Clients, stream: str, mappings: Path, batch_rows: int) -> None:
    """Drain one stream as the flow does, one batch after the other."""
    limits = BatchLimits(batch_rows, clients.settings.batch_bytes)
    window, route = TimeWindow(EARLIEST, LATEST), InsertRoute.STRAIGHT
    with clients.postgres() as connection:
        planned = make_plan(clients.redis, connection, stream)
        layout = bind(load_mappings(mappings).for_stream(stream), read_table(connection, default_table_name()))
        reader = Reader(clients.redis, stream, planned.gaps, planned.tail, limits, layout, window)
        while (batch := reader.read()) is not None:
            route = load_batch(connection, batch, "fuzz", route).next_route


def forget(client: redis.Redis, connection: psycopg.Connection) -> None:
    """Empty everything for the next of many examples. No TRUNCATE, which makes new files for every chunk."""
    client.flushdb()
    connection.execute("DELETE FROM events")
    delete_ledger_rows(connection)
