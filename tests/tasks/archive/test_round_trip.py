"""Random rows through a real table, an archive and back: nothing lost, changed or moved."""

from __future__ import annotations

import tempfile
import uuid
from datetime import datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.archive.archive_root import open_root
from tasks.archive.drop_archived import drop_archived
from tasks.archive.verify import read_archive
from tasks.archive.write_chunk import archive_chunk
from tests.support.archives import (
    MICROSECOND,
    THURSDAY,
    Event,
    chunks,
    content_hash,
    insert_events,
    only_chunk,
    rows_by_pandas,
    rows_in_order,
)
from tests.support.default_table import default_table
from tests.support.strategies import DOCUMENT, TEXT

WEEK = timedelta(days=7)
DAYS = st.integers(0, 7).map(lambda day: THURSDAY + timedelta(days=day) - (MICROSECOND if day == 7 else timedelta(0)))
TIMES = DAYS | st.datetimes(datetime(2024, 1, 4), datetime(2024, 1, 10, 23, 59, 59, 999_999)).map(
    lambda moment: moment.replace(tzinfo=THURSDAY.tzinfo)
)
IDS = st.uuids() | st.sampled_from([uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)])
ROWS = st.lists(
    st.tuples(TIMES, IDS.map(str), TEXT, TEXT, st.none() | DOCUMENT),
    min_size=1,
    max_size=12,
    unique_by=lambda row: (row[0], row[1]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=ROWS)
def test_any_rows_are_archived_read_back_and_dropped_as_they_were(
    database: psycopg.Connection, events: list[Event]
) -> None:
    insert_events(database, events)
    rows = rows_in_order(database)
    chunk = only_chunk(database)
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(folder)
        manifest = archive_chunk(database, default_table(database), chunk, root)
        assert rows_by_pandas(root.base, [manifest]) == rows
        found = [row for batch in read_archive(root, manifest) for row in batch.to_pylist()]
        assert [(r["time"], str(r["event_id"]), r["event_type"], r["user_id"], r["properties"]) for r in found] == rows
        assert (manifest.rows, manifest.content_hash) == (len(events), content_hash(rows))
        assert drop_archived(database, default_table(database), chunk, manifest, root) == "dropped"
    assert chunks(database) == []
