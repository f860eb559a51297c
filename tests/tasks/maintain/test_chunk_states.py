"""What the server says of its chunks, asked while they change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Event

import psycopg
import pytest

from tasks.backfill.chunk_map import read_chunk_map
from tasks.table.chunks import chunks
from tests.support.chunk_states import MONDAY, fill_weeks
from tests.support.default_table import default_table
from tests.support.servers import Servers

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]


def test_reading_chunks_is_retried_while_other_sessions_drop_them(
    servers: Servers, database: psycopg.Connection
) -> None:
    """A backfill during a drop of many chunks used to fail with 42P01, nearly every time."""
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
