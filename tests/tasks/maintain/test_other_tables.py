"""Chunks, drops, audits and compression of a user's tables: any names, and a time of any type."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from infra.tables.read_table import read_table
from infra.tables.table import Table
from tasks.base.clock import server_now
from tasks.maintain.audited_chunks import audited_chunks
from tasks.maintain.chunk_states import chunk_states
from tasks.maintain.compression import columnstore_sql, compression_changes, desired_policy, read_current_policy
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.dropped_rows import retention
from tasks.maintain.drops import read_drops
from tasks.maintain.jobs import apply_changes, read_jobs
from tasks.maintain.recompression import chunks_to_recompress, recompress_chunk
from tasks.maintain.retention import drop_chunk, retention_changes
from tasks.maintain.row_audit import audit_rows
from tasks.table.chunks import chunks, count, open_chunks
from tests.support.other_tables import NAME, START, TIMES, delete_row, dump, fill, maintained, make_table

Alter = Callable[[str], None]
WEEK = timedelta(weeks=1)


@pytest.fixture(params=TIMES)
def table(request: pytest.FixtureRequest, hypertables: None, alter: Alter, database: psycopg.Connection) -> Table:
    """Three chunks of 28 rows each."""
    database.execute("SET TimeZone = 'UTC'")
    made = make_table(database, request.param)
    fill(database, made, range(84))
    return made


def record(connection: psycopg.Connection, name: str, stream: str, inserted: int, weeks: int = 3) -> None:
    """A ledger row for each week that says that so many rows were inserted into a table."""
    connection.execute('INSERT INTO spillway.streams (name, baseline, "table") VALUES (%s, 0, %s)', [stream, name])
    for week in range(weeks):
        connection.execute(
            "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, max_time, loaded_by)"
            " SELECT id, numrange(%(n)s, %(n)s + 1), %(rows)s, %(rows)s, %(rows)s, %(time)s, %(time)s, 'test'"
            " FROM spillway.streams WHERE name = %(stream)s",
            {"n": week, "rows": inserted, "time": START + week * WEEK, "stream": stream},
        )


def test_chunks_have_the_ranges_of_their_times_and_are_counted_by_time(
    table: Table, database: psycopg.Connection
) -> None:
    found = list(chunks(database, table))
    assert [chunk.range_start for chunk in found] == [START, START + WEEK, START + 2 * WEEK]
    assert [state.chunk for state in chunk_states(database, table)] == found
    middle = found[1].range_start + timedelta(days=2)
    assert [count(database, table, chunk) for chunk in found] == [28, 28, 28]
    assert count(database, table, found[1], middle) == 20
    assert count(database, table, found[1], until=middle) == 8


def test_an_opened_chunk_is_empty(table: Table, database: psycopg.Connection) -> None:
    before = dump(database, table)
    later = START + 9 * WEEK + timedelta(hours=5)
    open_chunks(database, table, [round(later.timestamp() * 1e6), round(START.timestamp() * 1e6)])
    assert [chunk.range_start for chunk in chunks(database, table)][3:] == [START + 9 * WEEK]
    assert dump(database, table) == before


def test_no_chunk_is_opened_if_a_column_needs_a_value_that_only_the_user_knows(
    hypertables: None, alter: Alter, database: psycopg.Connection
) -> None:
    alter("CREATE TYPE users.mood AS ENUM ('sad')")
    made = make_table(database, "timestamptz")
    database.execute(f"ALTER TABLE {made.regclass} ADD COLUMN mood users.mood NOT NULL")
    open_chunks(database, read_table(database, NAME), [round(START.timestamp() * 1e6)])
    assert chunks(database, made) == {}


def test_a_dropped_chunk_is_recorded_for_its_table_only(table: Table, database: psycopg.Connection) -> None:
    other = make_table(database, "timestamptz", name="users.other")
    fill(database, other, range(84))
    record(database, table.regclass, "a", 28)
    record(database, other.regclass, "b", 28)
    state = chunk_states(database, table)[0]
    assert drop_chunk(database, table, state) == 28
    assert [chunk.range_start for chunk in chunks(database, table)] == [START + WEEK, START + 2 * WEEK]
    assert len(chunks(database, other)) == 3
    assert (read_drops(database, table.regclass).rows_after(None), read_drops(database, other.regclass).counted) == (
        28,
        (),
    )
    for one, rows, dropped in ((table, 56, 28), (other, 84, 0)):
        found, _ = audit_rows(database, one, None)
        assert (found.checked, found.missing, found.rows, found.dropped) == (True, 0, rows, dropped)
        assert len(retention(database, one).drops) == (one is table)


def test_a_deleted_row_is_missing_from_its_table_only(table: Table, database: psycopg.Connection) -> None:
    other = make_table(database, "timestamptz", name="users.other")
    fill(database, other, range(84))
    record(database, table.regclass, "a", 28)
    record(database, other.regclass, "b", 28)
    delete_row(database, table, 30)
    found, _ = audit_rows(database, table, None)
    assert (found.missing, found.since) == (1, START + WEEK)
    assert audit_rows(database, other, None)[0].missing == 0
    database.execute("DELETE FROM users.other WHERE n > 81")
    assert audit_rows(database, other, START + timedelta(days=3))[0].missing == 2
    assert audit_rows(database, table, START + timedelta(days=3))[0].missing == 1


def test_a_routed_range_counts_for_each_table_what_it_got(table: Table, database: psycopg.Connection) -> None:
    other = make_table(database, "date", name="users.other")
    fill(database, other, range(3))
    database.execute("INSERT INTO spillway.streams (name, baseline, \"table\") VALUES ('r', 0, %s)", [table.regclass])
    database.execute(
        "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, loaded_by, by_table)"
        " SELECT id, numrange(0, 9), 89, 89, 89, %s, 'test', jsonb_build_object(%s::text, 85, %s::text, 4)"
        " FROM spillway.streams WHERE name = 'r'",
        [START, table.regclass, other.regclass],
    )
    assert [audit_rows(database, one, None)[0].missing for one in (table, other)] == [1, 1]


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_a_table_is_compressed_by_its_time_and_the_layout_of_the_user_stays(
    table: Table, database: psycopg.Connection
) -> None:
    def wanted_changes() -> list[str]:
        one = maintained(database)
        current = read_current_policy(database, one.table)
        todo = compression_changes(current, desired_policy(one, current), columnstore_sql(database), one)
        with database.transaction():  # so that the server finds no job that is due
            apply_changes(database, todo)
            database.execute(
                "SELECT alter_job(job_id, next_start => now() + interval '1 day') FROM timescaledb_information.jobs"
                " WHERE hypertable_name = %s", [table.name],
            )  # fmt: skip
        return [change.what for change in todo]

    before = dump(database, table)
    assert wanted_changes() == [
        "compression set: segmentby –, orderby at %s DESC",
        "compression policy added: after 7 days",
    ]
    assert wanted_changes() == []
    database.execute(
        f"ALTER TABLE {table.regclass} SET (timescaledb.compress,"
        """ timescaledb.compress_segmentby = '"Ort"', timescaledb.compress_orderby = 'n, "at %s"')"""
    )
    assert wanted_changes() == []
    one = maintained(database)
    wanted = desired_policy(one, read_current_policy(database, one.table))
    assert wanted is not None
    assert wanted.layout == CompressionLayout.parse('"Ort"', 'n, "at %s"', "at %s")
    states = chunk_states(database, table)
    database.execute("SELECT compress_chunk(%s::regclass)", [f"{states[0].chunk.schema}.{states[0].chunk.table}"])
    fill(database, table, range(1000, 1001))
    database.execute(f"UPDATE {table.regclass} SET temp = 3 WHERE n = 1".encode())
    changed = dump(database, table)
    assert changed != before
    todo = chunks_to_recompress(chunk_states(database, table), wanted, server_now(database))
    for again in todo:
        recompress_chunk(database, again, columnstore_sql(database))
    first = chunk_states(database, table)[0]
    assert (first.state, first.layout) == ("compressed", wanted.layout)
    assert dump(database, table) == changed


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_a_users_own_policies_stay_unless_something_is_configured(
    table: Table, database: psycopg.Connection, configure: Callable[..., object]
) -> None:
    # Without an existing row, the job does nothing before the test ends.
    database.execute("SELECT add_retention_policy(%s, interval '90 years')", [table.regclass])
    database.execute(f"ALTER TABLE {table.regclass} SET (timescaledb.compress)")
    database.execute("SELECT add_compression_policy(%s, interval '80 years')", [table.regclass])

    def changes() -> list[str]:
        one = maintained(database)
        current = read_current_policy(database, one.table)
        todo = compression_changes(current, desired_policy(one, current), columnstore_sql(database), one)
        todo += retention_changes(read_jobs(database, one.table, "retention"), one)
        return [change.what for change in todo]

    assert changes() == []
    configure(compress_after="9d", keep="30d", retention="policy")
    assert changes() == [
        "compression policy after 29200 days: removed",
        "compression policy added: after 9 days",
        "retention policy after 32850 days: removed",
        "retention policy added: after 30 days",
    ]


def test_a_partitioned_table_is_audited_from_its_oldest_partition_on(
    alter: Alter, database: psycopg.Connection
) -> None:
    alter(
        """CREATE TABLE users.parts (at timestamp NOT NULL, n int) PARTITION BY RANGE (at);
           CREATE TABLE users.p1 PARTITION OF users.parts FOR VALUES FROM ('2024-01-04') TO ('2024-01-11');
           CREATE TABLE users.p2 PARTITION OF users.parts FOR VALUES FROM ('2024-01-11') TO ('2024-01-18');
           CREATE TABLE users.p3 PARTITION OF users.parts FOR VALUES FROM ('2024-01-18') TO (MAXVALUE);
           INSERT INTO users.parts
           SELECT '2024-01-04'::timestamp + n * interval '6 hours', n FROM generate_series(0, 83) AS n"""
    )
    table = read_table(database, "users.parts")
    record(database, table.regclass, "a", 28)
    assert [part.table for part in audited_chunks(database, table)] == ["p1", "p2", "p3"]
    assert audit_rows(database, table, None)[0].missing == 0
    database.execute("DROP TABLE users.p1")
    found, _ = audit_rows(database, table, None)
    assert (found.missing, found.inserted, found.since) == (0, 56, START + WEEK)
    (drop,) = retention(database, table).drops
    assert (drop.end, drop.counted) == (round((START + WEEK).timestamp() * 1e6), False)
    database.execute("DELETE FROM users.parts WHERE n = 83")
    assert audit_rows(database, table, None)[0].missing == 1


def test_a_plain_table_is_audited_as_a_whole(alter: Alter, database: psycopg.Connection) -> None:
    alter("CREATE TABLE users.plain (n int); INSERT INTO users.plain SELECT generate_series(1, 84)")
    table = read_table(database, "users.plain")
    record(database, table.regclass, "a", 28)
    found, counted = audit_rows(database, table, None)
    assert (found.missing, found.rows, found.since, list(counted.values())) == (0, 84, None, [84])
    database.execute("DELETE FROM users.plain WHERE n < 3")
    assert audit_rows(database, table, None)[0].missing == 2
    assert (chunks(database, table), chunk_states(database, table), retention(database, table).drops) == ({}, [], ())
