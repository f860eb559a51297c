"""A few entries with times spread over years do not create hundreds of chunks: the most recent ones go first."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.redrive import redrive
from infra.producers.send import send
from infra.settings import Settings
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch
from tasks.columns.decode import TimeWindow
from tasks.columns.entries import page_to_columns
from tasks.table.new_chunks import NewChunkLimit
from tests.support.command_line import RunSpillway
from tests.support.events_layouts import ANY
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.results import drain_counts
from tests.support.stream_entries import event

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]

Configure = Callable[..., Settings]

NOW = datetime.now(UTC).replace(microsecond=0)
WEEK = timedelta(weeks=1)
RECENT = 6  # the chunk of now, the next one, the four before it: never refused and not counted


def weekly(weeks: int, first: int = 1_000, back: int = 10) -> list[dict[bytes, bytes]]:
    """One event a week, the newest `back` weeks ago, the oldest first."""
    times = [NOW - WEEK * (back + n) for n in reversed(range(weeks))]
    return [event(first + n, time=moment.isoformat()) for n, moment in enumerate(times)]


def chunk_count(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM show_chunks('events')").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("prefect_server")
def test_entries_beyond_the_new_chunks_of_a_run_wait_and_the_nearest_to_the_present_go_in(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(max_new_chunks=50, max_bad_share=1, batch_rows=1_000)
    old = weekly(400)
    recent = [event(n, time=(NOW - WEEK * n / 10).isoformat()) for n in range(20)]
    send(redis_client, stream, [*old, *recent])
    result = drain(stream)
    assert drain_counts(result) == (420, 70, 0, 350, 0)
    assert table_rows(database) == flat_rows([*old[-50:], *recent])
    assert chunk_count(database) <= 50 + RECENT
    assert ledger_is_whole(database, stream)
    reasons = database.execute("SELECT DISTINCT kind, field, reason FROM spillway.quarantine").fetchall()
    ((kind, field, reason),) = reasons
    assert (kind, field) == ("refused", "time")
    assert "SPILLWAY_MAX_NEW_CHUNKS" in reason
    assert "redrive --yes" in reason
    (warning,) = [said for said in result["warnings"] if "MAX_NEW_CHUNKS" in said]
    assert "350 new chunks" in warning

    again = redrive(stream)
    assert [again[name] for name in ("tried", "inserted", "still_bad")] == [350, 50, 300], "another run, another 50"
    assert table_rows(database) == flat_rows([*old[-100:], *recent])
    rest = redrive(stream, yes=True)
    assert [rest[name] for name in ("tried", "inserted", "still_bad")] == [300, 300, 0]
    assert table_rows(database) == flat_rows([*old, *recent])


@pytest.mark.usefixtures("prefect_server")
def test_current_entries_go_in_after_batches_of_the_past_and_even_if_no_chunk_may_be_created(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(max_new_chunks=0, max_bad_share=1, batch_rows=10)
    recent = [event(n, time=(NOW - timedelta(hours=n)).isoformat()) for n in range(20)]
    send(redis_client, stream, [*weekly(30), *recent])
    assert drain_counts(drain(stream)) == (50, 20, 0, 30, 0)
    assert table_rows(database) == flat_rows(recent)


def test_the_advised_command_loads_the_waiting_entries(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure
) -> None:
    configure(max_new_chunks=2)
    send(redis_client, stream, weekly(8))
    drain(stream)
    assert len(table_rows(database)) == 2
    code, out, _ = spillway("quarantine", "redrive", "--field", "time", "--yes", "--json")
    assert (code, json.loads(out)["inserted"]) == (0, 6)
    assert table_rows(database) == flat_rows(weekly(8))


class _Asked:
    """A connection that counts its statements."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.statements = 0

    def execute(self, *arguments: Any) -> Any:
        self.statements += 1
        return self._connection.execute(*arguments)


def _batch(events: list[dict[bytes, bytes]]) -> Batch:
    page = [(b"%d-0" % n, [part for pair in e.items() for part in pair]) for n, e in enumerate(events, 1)]
    return Batch(
        "s", IdRange(1 << 64, (len(events) + 1) << 64), page_to_columns(page), ANY, TimeWindow(-(2**62), 2**62)
    )


def test_a_batch_whose_chunks_are_known_asks_nothing_and_any_other_asks_once(
    database: psycopg.Connection,
) -> None:
    asked: Any = _Asked(database)
    new_chunks = NewChunkLimit(500)
    for batch, statements in ((_batch(weekly(40)), 1), (_batch(weekly(40, first=0)), 1), (_batch(weekly(41)), 2)):
        before = batch.encoded.faults
        admitted = new_chunks.admit(asked, batch)
        assert asked.statements == statements
        assert admitted.encoded.faults == before


def test_the_halves_of_a_split_batch_and_its_repeats_leave_out_the_same_entries(database: psycopg.Connection) -> None:
    events = weekly(40)
    batch = _batch([*events, *events])  # each repeated to the byte
    batch = NewChunkLimit(10).admit(database, batch)
    left_out = {fault.entry for fault in batch.encoded.faults}
    assert left_out == {*range(30), *range(40, 70)}
    first, second = batch.split()
    assert {fault.entry for fault in first.encoded.faults} == set(range(30))
    assert {fault.entry for fault in second.encoded.faults} == set(range(30))


def test_chunks_shorter_than_an_hour_are_counted_one_by_one(database: psycopg.Connection) -> None:
    database.execute("SELECT set_chunk_time_interval('events', interval '10 minutes')")
    try:
        batch = _batch([event(n, time=(NOW - timedelta(days=9, minutes=10 * n)).isoformat()) for n in range(60)])
        batch = NewChunkLimit(12).admit(database, batch)
        assert sorted(fault.entry for fault in batch.encoded.faults) == list(range(12, 60))
    finally:
        database.execute("SELECT set_chunk_time_interval('events', interval '7 days')")


def test_a_chunk_that_another_session_created_meanwhile_does_not_count(database: psycopg.Connection) -> None:
    new_chunks = NewChunkLimit(0)
    refused = new_chunks.admit(database, _batch(weekly(3)))
    assert len(refused.encoded.faults) == 3
    for old in weekly(3):
        database.execute("INSERT INTO events VALUES (%s, gen_random_uuid(), 'x', 'u')", [old[b"time"].decode()])
    batch = new_chunks.admit(database, _batch(weekly(3)))
    assert not batch.encoded.faults
