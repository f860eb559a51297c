"""Rows that the server compresses while they are copied, next to other sessions that insert into the same table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from infra.mapping.stream_mapping import StreamMapping
from infra.tables.read_table import read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.entries import page_to_columns
from tasks.columns.row_layout import bind
from tasks.ledger.register_stream import register_stream
from tasks.table.insert import InsertRoute
from tasks.table.load import LoadResult, load_batch
from tests.support.chunk_states import chunk_statuses
from tests.support.servers import Servers
from tests.support.user_table import ANY_TIME

pytestmark = [pytest.mark.community, pytest.mark.usefixtures("community")]

START = datetime(2026, 11, 2, tzinfo=UTC)
PARTIAL = 8  # of a chunk's status: it also has rows that are not compressed
MAPPING = StreamMapping("s", table="users.readings")


@pytest.fixture
def readings(alter: Callable[[str], None], database: psycopg.Connection) -> psycopg.Connection:
    """An empty hypertable without a key, with weekly chunks and columnstore."""
    alter(
        """CREATE TABLE users.readings (at timestamptz NOT NULL, device text NOT NULL, celsius float8);
           SELECT create_hypertable('users.readings', 'at', chunk_time_interval => interval '7 days');
           ALTER TABLE users.readings SET (timescaledb.compress, timescaledb.compress_orderby = 'at')"""
    )
    if not read_table(database, "users.readings").direct_compression:
        pytest.skip("this TimescaleDB cannot compress safely while it copies")
    register_stream(database, "s", '"users"."readings"')
    return database


def batch(connection: psycopg.Connection, first: int, hours: Sequence[float], device: str = "d") -> Batch:
    """A batch of readings that many hours after START."""
    page = []
    for number, hour in enumerate(hours, first):
        at = (START + timedelta(hours=hour)).isoformat().encode()
        page.append((b"%d-0" % number, [b"at", at, b"device", device.encode(), b"celsius", b"%d" % (number % 40)]))
    layout = bind(MAPPING, read_table(connection, "users.readings"))
    return Batch("s", IdRange(first << 64, (first + len(page)) << 64), page_to_columns(page), layout, ANY_TIME)


def load(connection: psycopg.Connection, one: Batch) -> LoadResult:
    return load_batch(connection, one, "test", InsertRoute.STRAIGHT)


def spread(count: int, start: float, stop: float) -> list[float]:
    return [start + (stop - start) * n / count for n in range(count)]


def test_the_chunks_are_there_before_rows_are_compressed_into_them(readings: psycopg.Connection) -> None:
    """Otherwise the server takes them for complete, and hides what others insert meanwhile."""
    loaded = load(readings, batch(readings, 1, spread(3_000, 0, 400)))
    assert (loaded.inserted, loaded.compressed) == (3_000, 3_000)
    statuses = chunk_statuses(readings, "readings")
    assert len(statuses) == 3
    assert all(status & PARTIAL for status in statuses)
    assert readings.execute("SELECT count(*) FROM users.readings").fetchone() == (3_000,)


def test_a_batch_whose_chunks_cannot_be_created_before_is_copied_as_rows(
    readings: psycopg.Connection, servers: Servers
) -> None:
    """A role that may not delete makes no chunk in advance: this batch makes it, and the next ones are compressed."""
    readings.execute(
        "DO $$ BEGIN CREATE ROLE loader LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN END $$;"
        "GRANT USAGE ON SCHEMA users, spillway TO loader; GRANT SELECT, INSERT ON users.readings TO loader;"
        "GRANT ALL ON ALL TABLES IN SCHEMA spillway TO loader"
    )
    url = psycopg.conninfo.make_conninfo(servers.settings.database, user="loader", password="x")
    try:
        with psycopg.connect(url, autocommit=True) as loader:
            counts = [load(loader, batch(loader, first, spread(1_500, 0, 100))) for first in (1, 2_001)]
        assert [(one.inserted, one.compressed) for one in counts] == [(1_500, 0), (1_500, 1_500)]
        assert readings.execute("SELECT count(*) FROM users.readings").fetchone() == (3_000,)
    finally:
        readings.execute("DROP OWNED BY loader; DROP ROLE loader")
