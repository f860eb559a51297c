"""A row that the ledger has and the table lacks is missing, to the exact number, unless a drop is on record for it."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

import tasks.maintain.chunk_states as module
from tasks.ledger.merge_ranges import merge_ranges
from tasks.maintain.chunk_states import chunk_states, count_rows
from tasks.maintain.drops import record_drop, record_uncounted
from tasks.maintain.retention import drop_chunk
from tasks.maintain.row_audit import audit_rows
from tests.support.chunk_states import MONDAY, fill_weeks
from tests.support.default_table import default_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables")]

WEEK = timedelta(days=7)
ROWS = 100  # a week, in `weeks` of them


def book(connection: psycopg.Connection, ranges: list[tuple[datetime, datetime, int]], loaded_at: str = "now") -> int:
    """Ledger rows of one stream: first time, last time, inserted."""
    connection.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('s', 0)")
    for number, (first, last, inserted) in enumerate(ranges):
        connection.execute(
            "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, max_time, loaded_by, loaded_at)"
            " SELECT id, numrange(%s, %s), %s, %s, %s, %s, %s, 'test', %s FROM spillway.streams",
            [number, number + 1, inserted, inserted, inserted, first, last, loaded_at],
        )
    ((stream,),) = connection.execute("SELECT id FROM spillway.streams").fetchall()
    return int(stream)


def weekly(weeks: int) -> list[tuple[datetime, datetime, int]]:
    """One range a week, each with a hundred inserted rows."""
    return [(MONDAY + n * WEEK, MONDAY + (n + 1) * WEEK - timedelta(minutes=1), ROWS) for n in range(weeks)]


@pytest.fixture
def six_weeks(database: psycopg.Connection) -> psycopg.Connection:
    """Six weeks of a hundred rows each, all of them in the ledger."""
    fill_weeks(database, weeks=6, rows=ROWS)
    return database


def count_events(connection: psycopg.Connection, since: datetime, until: datetime | None = None) -> int:
    """The rows from `since` on and before `until`, counted by the test itself."""
    query = "SELECT count(*) FROM events WHERE time >= %s AND time < coalesce(%s::timestamptz, 'infinity')"
    ((rows,),) = connection.execute(query, [since, until]).fetchall()
    return int(rows)


def missing(connection: psycopg.Connection, horizon: datetime | None = None) -> tuple[int, datetime | None]:
    found, _ = audit_rows(connection, default_table(connection), horizon)
    assert found.checked
    return found.missing, found.since


def test_nothing_is_missing_from_a_complete_table_with_or_without_a_horizon(six_weeks: psycopg.Connection) -> None:
    book(six_weeks, weekly(6))
    found, counted = audit_rows(six_weeks, default_table(six_weeks), None)
    assert (found.missing, found.inserted, found.rows, found.since) == (0, 600, 600, None)
    assert sum(counted.values()) == 600
    assert missing(six_weeks, MONDAY + 2 * WEEK) == (0, None)


def test_a_single_deleted_row_is_missing(six_weeks: psycopg.Connection) -> None:
    book(six_weeks, weekly(6))
    six_weeks.execute("DELETE FROM events WHERE time = (SELECT min(time) FROM events)")
    assert missing(six_weeks)[0] == 1


def test_after_uncounted_drops_only_rows_past_their_reach_are_missing(
    six_weeks: psycopg.Connection,
) -> None:
    book(six_weeks, weekly(6))
    horizon = MONDAY + 3 * WEEK
    six_weeks.execute("SELECT drop_chunks('events', older_than => %s::timestamptz)", [horizon])
    thursday = horizon - timedelta(days=4)  # chunks begin on Thursdays
    assert count_events(six_weeks, MONDAY) == count_events(six_weeks, thursday) == 357  # the test dropped 243
    assert missing(six_weeks, horizon) == (243, None)
    record_uncounted(six_weeks, default_table(six_weeks), horizon, "policy")
    record_uncounted(six_weeks, default_table(six_weeks), horizon - WEEK, "policy")  # the recorded reach never shrinks
    # A chunk is dropped as a whole: the one that the horizon cuts must still be there.
    assert missing(six_weeks, horizon) == (0, thursday)
    assert missing(six_weeks, None)[0] == 0
    six_weeks.execute("DELETE FROM events WHERE time >= %s AND time < %s", [horizon + WEEK, horizon + 2 * WEEK])
    assert missing(six_weeks, horizon) == (100, horizon)


def test_every_deleted_row_of_the_chunk_that_the_reach_of_uncounted_drops_cuts_is_missing(
    six_weeks: psycopg.Connection,
) -> None:
    """That chunk is not dropped before all of it is older, and the reach moves on between two audits."""
    day = timedelta(days=1)
    book(six_weeks, [(MONDAY + n * day, MONDAY + (n + 1) * day - timedelta(seconds=1), 0) for n in range(42)])
    six_weeks.execute(
        """UPDATE spillway.ledger SET inserted = n, read = n, rows = n FROM (
               SELECT l.ids, count(*) AS n FROM events JOIN spillway.ledger AS l ON time BETWEEN min_time AND max_time
                GROUP BY l.ids) AS counted WHERE counted.ids = ledger.ids"""
    )
    horizon = MONDAY + 3 * WEEK + day
    thursday = MONDAY + 3 * WEEK - 4 * day  # the start of the chunk that the horizon cuts
    six_weeks.execute("SELECT drop_chunks('events', older_than => %s::timestamptz)", [horizon])
    record_uncounted(six_weeks, default_table(six_weeks), horizon + timedelta(seconds=1), "policy")
    assert missing(six_weeks, horizon)[0] == 0
    deleted = six_weeks.execute("DELETE FROM events WHERE time >= %s AND time < %s", [horizon + day, horizon + 2 * day])
    assert deleted.rowcount == 14
    assert missing(six_weeks, horizon) == (14, thursday)


def test_a_schema_without_the_record_of_drops_is_an_error_and_nothing_is_dropped(six_weeks: psycopg.Connection) -> None:
    """The error must not be taken for a chunk that was dropped."""
    state = chunk_states(six_weeks, default_table(six_weeks))[0]
    six_weeks.execute("ALTER TABLE spillway.drops RENAME TO other")
    try:
        with pytest.raises(psycopg.errors.UndefinedTable):
            drop_chunk(six_weeks, default_table(six_weeks), state)
    finally:
        six_weeks.execute("ALTER TABLE spillway.other RENAME TO drops")
    assert drop_chunk(six_weeks, default_table(six_weeks), state) is not None
    assert drop_chunk(six_weeks, default_table(six_weeks), state) is None


def test_rows_are_counted_no_longer_than_a_statement_may_take(six_weeks: psycopg.Connection) -> None:
    """The client gives up on a server that is silent for longer; rows that are not counted in time are not checked."""
    book(six_weeks, weekly(6))
    with psycopg.connect(six_weeks.info.dsn, password=six_weeks.info.password) as other:
        newest = chunk_states(six_weeks, default_table(six_weeks))[-1].chunk
        other.execute(f"LOCK TABLE {newest.schema}.{newest.table} IN ACCESS EXCLUSIVE MODE")
        six_weeks.execute("SET statement_timeout = '300ms'")
        assert list(count_rows(six_weeks, [newest], 100_000)) == []


def test_rows_of_counted_drops_are_not_missing_even_if_the_time_to_keep_grows(
    six_weeks: psycopg.Connection,
) -> None:
    book(six_weeks, weekly(6))
    with six_weeks.transaction():
        for chunk in audit_rows(six_weeks, default_table(six_weeks), None)[1].items():
            if chunk[0].range_end <= MONDAY + 3 * WEEK:
                record_drop(six_weeks, default_table(six_weeks), chunk[0], chunk[1], None, "test")
        six_weeks.execute("SELECT drop_chunks('events', older_than => %s::timestamptz)", [MONDAY + 3 * WEEK])
    assert missing(six_weeks, MONDAY + 3 * WEEK) == (0, None)
    assert missing(six_weeks, MONDAY + WEEK) == (0, None)
    deleted = six_weeks.execute("DELETE FROM events WHERE time > %s", [MONDAY + 6 * WEEK - timedelta(days=1)])
    assert deleted.rowcount == 14
    assert missing(six_weeks, MONDAY + WEEK)[0] == 14


def test_merged_ranges_are_accounted_for_all_together(six_weeks: psycopg.Connection) -> None:
    parts = [(first, last, 1) for first, last, inserted in weekly(6) for _ in range(inserted)]
    stream = book(six_weeks, parts, "2020-01-01")
    merge_ranges(six_weeks, stream)
    assert six_weeks.execute("SELECT count(*) FROM spillway.ledger").fetchone() == (1,)
    assert missing(six_weeks, MONDAY + 3 * WEEK) == (0, None)
    six_weeks.execute("DELETE FROM events WHERE time = (SELECT max(time) FROM events)")
    assert missing(six_weeks, MONDAY + 3 * WEEK)[0] == 1


def test_rows_that_nobody_drained_hide_no_loss_after_them(six_weeks: psycopg.Connection) -> None:
    """The surplus rows of the first week outnumber the deleted rows of the last."""
    book(six_weeks, weekly(6))
    six_weeks.execute(
        "INSERT INTO events SELECT %s::timestamptz + n * interval '1 second', gen_random_uuid(), 'x', 'y'"
        " FROM generate_series(1, 90) AS n",
        [MONDAY],
    )
    six_weeks.execute("DELETE FROM events WHERE time >= %s", [MONDAY + 5 * WEEK + timedelta(days=1)])
    thursday = MONDAY + 4 * WEEK + timedelta(days=3)
    # The ledger has 100 rows of the last week; those since Thursday stand in for a part of them.
    assert missing(six_weeks) == (ROWS - count_events(six_weeks, thursday), thursday)
    assert count_events(six_weeks, thursday) == 72


def test_an_empty_database_lacks_nothing(database: psycopg.Connection) -> None:
    assert missing(database) == (0, None)
    assert missing(database, datetime(2026, 1, 1, tzinfo=UTC))[0] == 0


def end_waits(holder: psycopg.Connection, counting: Future[object]) -> None:
    """End each statement that waits for a lock of `holder`, as its time limit does, until `counting` is done."""
    ended = set()
    waiting = "SELECT pid, virtualtransaction FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))"

    def is_done() -> bool:
        for pid, transaction in holder.execute(waiting, [holder.info.backend_pid]).fetchall():
            if transaction not in ended:  # otherwise it may be about to begin the next one
                ended.add(transaction)
                holder.execute("SELECT pg_cancel_backend(%s)", [pid])
        return counting.done()

    wait_until(is_done)


def test_many_small_chunks_are_counted_some_at_a_time_and_a_locked_one_ends_it(
    six_weeks: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which chunks are counted together must not matter: each has its own rows, and those before the locked one are
    counted although they were in one statement with it."""
    monkeypatch.setattr(module, "_STATEMENT_SECONDS", 60.0)
    with six_weeks.transaction():
        six_weeks.execute("SELECT set_chunk_time_interval('events', interval '1 hour')")
        six_weeks.execute(
            """INSERT INTO events SELECT %s::timestamptz + h * interval '1 hour' + n * interval '1 second',
                      gen_random_uuid(), 'a', 'b' FROM generate_series(0, 99) AS h, generate_series(0, h %% 3) AS n""",
            [MONDAY + 20 * WEEK],
        )
        six_weeks.execute("SELECT set_chunk_time_interval('events', interval '7 days')")
    newest_first = [state.chunk for state in reversed(chunk_states(six_weeks, default_table(six_weeks)))]
    expected = [(one, count_events(six_weeks, one.range_start, one.range_end)) for one in newest_first]
    assert len(expected) > 100
    assert list(count_rows(six_weeks, newest_first, 3600)) == expected
    with (
        psycopg.connect(six_weeks.info.dsn, password=six_weeks.info.password) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        locked = newest_first[20]
        other.execute(f"LOCK TABLE {locked.schema}.{locked.table} IN ACCESS EXCLUSIVE MODE")
        counting = pool.submit(lambda: list(count_rows(six_weeks, newest_first, 3600)))
        end_waits(other, counting)
        assert counting.result() == expected[:20]
    six_weeks.execute(f"DROP TABLE {locked.schema}.{locked.table}".encode())
    expected[20] = (locked, 0)
    assert list(count_rows(six_weeks, newest_first, 3600)) == expected
