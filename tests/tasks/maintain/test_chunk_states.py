"""What the server says of its chunks, asked while they change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Event

import psycopg
import pytest

import tasks.maintain.chunk_states as module
from tasks.backfill.chunk_map import read_chunk_map
from tasks.maintain.check import gather_facts
from tasks.maintain.chunk_states import chunk_states
from tasks.table.chunks import chunks
from tests.support.chunk_states import MONDAY, fill_weeks
from tests.support.default_table import default_maintained, default_table
from tests.support.servers import Servers

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]


def test_reading_chunks_is_retried_while_other_sessions_drop_them(
    servers: Servers, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill during a drop of many chunks used to fail with 42P01, nearly every time."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 600)
    fill_weeks(database, weeks=60, rows=1)
    dropping = Event()

    def drop_all() -> None:
        with psycopg.connect(servers.settings.database, autocommit=True) as other:
            dropping.set()
            for week in range(1, 59):
                with suppress(psycopg.errors.DeadlockDetected):  # with the looks: it is the drop that gives in
                    other.execute("SELECT drop_chunks('events', %s::timestamptz)", [MONDAY + timedelta(weeks=week)])

    with ThreadPoolExecutor() as pool:
        dropped = pool.submit(drop_all)
        dropping.wait()
        found = [len(read_chunk_map(database, default_table(database)).states)]
        while not dropped.done():
            found.append(len(read_chunk_map(database, default_table(database)).states))
        dropped.result()
    found.append(len(read_chunk_map(database, default_table(database)).states))
    assert found == sorted(found, reverse=True)
    assert found[-1] == len(chunks(database, default_table(database))) < 10


def test_every_chunk_has_its_own_size_rows_and_state(servers: Servers, database: psycopg.Connection) -> None:
    fill_weeks(database, weeks=40, rows=20)
    database.execute("ANALYZE events")
    compressed: set[str] = set()
    if servers.edition == "Community":
        database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time DESC')")
        done = "SELECT compress_chunk(c)::text FROM show_chunks('events') WITH ORDINALITY AS s(c, n) WHERE n % 4 = 1"
        compressed = {name.rpartition(".")[2] for (name,) in database.execute(done).fetchall()}
        assert len(compressed) >= 10
    found = chunk_states(database, default_table(database))
    assert len(found) == len({state.chunk for state in found}) >= 40
    for state in found:
        query = f"SELECT count(*), pg_total_relation_size('{state.chunk.schema}.{state.chunk.table}') FROM ONLY {{}}"
        name = f"{state.chunk.schema}.{state.chunk.table}"
        ((loose, size),) = database.execute(query.format(name).encode()).fetchall()
        ((rows,),) = database.execute(f"SELECT count(*) FROM {name}".encode()).fetchall()
        if state.chunk.table in compressed:
            assert (state.state, state.rows) == ("compressed", rows)
            assert state.layout is not None
            assert state.bytes_as_rows
        else:
            assert (state.state, state.rows, loose, state.bytes) == ("rows", rows, rows, size)
            assert (state.bytes_as_rows, state.layout) == (None, None)


def test_the_oldest_time_is_that_of_the_first_chunk_with_rows(database: psycopg.Connection) -> None:
    fill_weeks(database, weeks=4, rows=7)
    database.execute("DELETE FROM events WHERE time < %s", [MONDAY + timedelta(days=11, hours=5)])
    ((expected,),) = database.execute("SELECT min(time) FROM events").fetchall()
    one, began = default_maintained(database), datetime.now(UTC)
    assert gather_facts(database, one, began).oldest == expected
    database.execute("DELETE FROM events")
    assert gather_facts(database, one, began).oldest is None
