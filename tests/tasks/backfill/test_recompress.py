"""A backfill compresses chunks during its loads and at its end, and a stopped one starts no further chunk."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from prefect import flow

from infra.connections.clients import Clients
from infra.settings import settings
from tasks.backfill.recompress import Compressor
from tasks.backfill.source import BackfillSource
from tasks.backfill.throttle import LoadThrottle
from tasks.maintain import contention
from tasks.maintain.chunk_states import chunk_states
from tests.support.archives import compressible
from tests.support.chunk_states import MONDAY, chunk_statuses, fill_weeks
from tests.support.default_table import default_table
from tests.support.oracle import table_rows
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.community, pytest.mark.usefixtures("community", "prefect_server")]

WEEKS = 6
DAY_MS = 86_400_000
TABLE = '"public"."events"'


@pytest.fixture
def chunks(community: None, database: psycopg.Connection) -> Iterator[int]:
    """The number of chunks of a table that can be compressed, all of them rows and past the age."""
    with compressible(database):
        fill_weeks(database, weeks=WEEKS, rows=200)
        number = len(chunk_statuses(database))
        assert number > WEEKS
        yield number


def days_of_source() -> list[int]:
    first = round(MONDAY.timestamp() * 1000)
    return [first + n * DAY_MS for n in range(7 * WEEKS)]


def unread(gaps: Any, limits: Any) -> Any:
    raise AssertionError("compressing reads no source")


def source() -> BackfillSource:
    """A file with rows on every day of the table."""
    return BackfillSource("file:x", "x", TABLE, 1, 1, (), dict.fromkeys(days_of_source(), 1), unread, tables=(TABLE,))


def test_complete_chunks_are_compressed_during_the_loads_and_the_rest_at_the_end(
    chunks: int, database: psycopg.Connection
) -> None:
    rows, table = table_rows(database), default_table(database)
    day = days_of_source()[17]
    moment = datetime.fromtimestamp(day / 1000, UTC)
    complete = sum(state.chunk.range_end <= moment for state in chunk_states(database, default_table(database)))
    assert 0 < complete < chunks

    @flow
    def loading() -> tuple[int, int]:
        with (
            Clients(settings()) as clients,
            Compressor(clients, [table], [source()]) as compressor,
        ):
            for _ in range(3):
                compressor.passed(day)
            assert chunk_statuses(database) == [0] * chunks  # it looks for complete chunks after every fourth load
            compressor.passed(day)
            wait_until(lambda: sum(chunk_statuses(database)) == complete)
            assert chunk_statuses(database) == [1] * complete + [0] * (chunks - complete)
            compressor.finish(LoadThrottle(clients, 2))
            return compressor.done, chunks

    assert loading() == (chunks, chunks)
    assert chunk_statuses(database) == [1] * chunks
    assert table_rows(database) == rows


@pytest.fixture
def reader(chunks: int, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """A transaction that reads the third chunk, which therefore stays in progress while it is compressed."""
    monkeypatch.setattr(contention, "_ALONE_SECONDS", 600)
    assert chunks > 3
    third = chunk_states(database, default_table(database))[2].chunk
    with psycopg.connect(database.info.dsn, password=database.info.password) as connection:
        connection.execute(f"SELECT count(*) FROM {third.schema}.{third.table}")
        yield connection


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("error", [RuntimeError("a defect"), KeyboardInterrupt()], ids=["defect", "signal"])
def test_a_flow_that_ends_leaves_the_chunk_that_it_waits_for_and_starts_no_other(
    error: BaseException, chunks: int, database: psycopg.Connection
) -> None:
    @flow
    def ended() -> None:
        with (
            Clients(settings()) as clients,
            Compressor(clients, [default_table(database)], [source()]) as compressor,
        ):
            for _ in range(4):
                compressor.passed(days_of_source()[-1] + 14 * DAY_MS)
            wait_until(lambda: chunk_statuses(database)[:2] == [1, 1])
            raise error

    with pytest.raises(type(error)):
        ended()
    expected = [1, 1] + [0] * (chunks - 2)
    assert chunk_statuses(database) == expected
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'spillway'"
    wait_until(lambda: database.execute(sessions).fetchone() == (0,))
    assert chunk_statuses(database) == expected
