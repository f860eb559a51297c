"""The server's compression is set as the settings want, with the SQL names before and after TimescaleDB 2.18."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from tasks.maintain.chunk_states import chunk_states
from tasks.maintain.compression import (
    COLUMNSTORE_NAMES,
    COMPRESSION_NAMES,
    ColumnstoreSql,
    DesiredPolicy,
    columnstore_sql,
    compression_changes,
    read_current_policy,
)
from tasks.maintain.compression_layout import CompressionLayout
from tasks.maintain.jobs import apply_changes
from tasks.maintain.recompression import Recompression, chunks_to_recompress, recompress_chunk
from tests.support.chunk_states import chunk_statuses, fill_weeks, only_job, paused_job
from tests.support.default_table import default_maintained, default_table
from tests.support.oracle import table_digest

pytestmark = [pytest.mark.community, pytest.mark.usefixtures("community")]

WEEK = DesiredPolicy(timedelta(days=7), CompressionLayout.parse("", "time DESC"))


@pytest.fixture(params=[COLUMNSTORE_NAMES, COMPRESSION_NAMES], ids=["new names", "old names"])
def words(request: pytest.FixtureRequest) -> ColumnstoreSql:
    found: ColumnstoreSql = request.param
    return found


def agree(connection: psycopg.Connection, wanted: DesiredPolicy | None, words: ColumnstoreSql) -> list[str]:
    one = default_maintained(connection)
    todo = compression_changes(read_current_policy(connection, one.table), wanted, words, one)
    apply_changes(connection, todo)
    return [change.what for change in todo]


def server_says(connection: psycopg.Connection) -> tuple[object, ...]:
    """Settings and policies, by the server's own views."""
    settings = connection.execute(
        "SELECT coalesce(segmentby, ''), orderby FROM timescaledb_information.hypertable_compression_settings"
    ).fetchall()
    jobs = connection.execute(
        "SELECT config->>'compress_after', scheduled FROM timescaledb_information.jobs WHERE hypertable_name = 'events'"
    ).fetchall()
    return settings, jobs


def test_the_newest_names_of_the_server_are_taken(database: psycopg.Connection) -> None:
    assert columnstore_sql(database) is COLUMNSTORE_NAMES


def test_nothing_set_is_set_and_the_same_is_left_untouched(database: psycopg.Connection, words: ColumnstoreSql) -> None:
    assert agree(database, WEEK, words) == [
        "compression set: segmentby –, orderby time DESC",
        "compression policy added: after 7 days",
    ]
    assert server_says(database) == ([("", '"time" DESC')], [("7 days", True)])
    job = only_job(database, "policy_compression")
    assert agree(database, WEEK, words) == []
    assert only_job(database, "policy_compression") == job


def test_another_interval_and_another_layout_are_changed_and_said(
    database: psycopg.Connection, words: ColumnstoreSql
) -> None:
    agree(database, WEEK, words)
    other = DesiredPolicy(timedelta(hours=36), CompressionLayout.parse("event_type", "user_id, time"))
    assert agree(database, other, words) == [
        "compression set: segmentby event_type, orderby user_id, time instead of segmentby –, orderby time DESC",
        "compression policy after 7 days: removed",
        "compression policy added: after 36 hours",
    ]
    assert server_says(database) == ([("event_type", 'user_id,"time"')], [("1 day 12:00:00", True)])
    assert agree(database, other, words) == []


def test_a_job_disabled_by_hand_is_enabled_again(database: psycopg.Connection, words: ColumnstoreSql) -> None:
    agree(database, WEEK, words)
    job = only_job(database, "policy_compression")
    database.execute("SELECT alter_job(%s, scheduled => false)", [job])
    assert agree(database, WEEK, words) == [f"compression policy: job {job} was disabled, enabled again"]
    assert server_says(database)[1] == [("7 days", True)]


def test_without_compression_the_policy_is_removed_and_compressed_chunks_stay(
    database: psycopg.Connection, words: ColumnstoreSql
) -> None:
    fill_weeks(database)
    with database.transaction():  # so that the server finds no job that is due
        agree(database, WEEK, words)
        paused_job(database, "policy_compression")
    database.execute("SELECT compress_chunk(c) FROM show_chunks('events') AS c")
    assert agree(database, None, words) == ["compression policy removed: SPILLWAY_COMPRESS_AFTER is empty"]
    assert server_says(database)[1] == []
    assert set(chunk_statuses(database)) == {1}
    assert agree(database, None, words) == []


@pytest.mark.parametrize("orderby", ["", "user_id", "event_id DESC NULLS LAST", '"time" ASC', "event_type, time desc"])
def test_the_server_returns_the_order_that_was_set(database: psycopg.Connection, orderby: str) -> None:
    wanted = DesiredPolicy(timedelta(days=1), CompressionLayout.parse("", orderby))
    agree(database, wanted, COLUMNSTORE_NAMES)
    assert agree(database, wanted, COLUMNSTORE_NAMES) == []


def set_layout(connection: psycopg.Connection, wanted: DesiredPolicy, words: ColumnstoreSql) -> None:
    """Without a policy, whose job would compress by itself."""
    one = default_maintained(connection)
    todo = compression_changes(read_current_policy(connection, one.table), wanted, words, one)
    apply_changes(connection, todo[:1])


def test_chunks_with_late_rows_or_another_layout_are_compressed_again_and_no_row_changes(
    database: psycopg.Connection, words: ColumnstoreSql
) -> None:
    fill_weeks(database)
    set_layout(database, WEEK, words)
    database.execute(
        "SELECT compress_chunk(c) FROM show_chunks('events', older_than => '2020-01-23'::timestamptz) AS c"
    )
    database.execute(
        "INSERT INTO events SELECT time, gen_random_uuid(), 'late', user_id FROM events WHERE time < '2020-01-08'"
    )
    before = table_digest(database)
    assert chunk_statuses(database) == [9, 1, 1, 0]
    now = database.execute("SELECT now()").fetchone()[0]  # type: ignore[index]

    def again(wanted: DesiredPolicy) -> list[Recompression]:
        todo = chunks_to_recompress(chunk_states(database, default_table(database)), wanted, now)
        for one in todo:
            recompress_chunk(database, one, words)
        return todo

    assert [one.why for one in again(WEEK)] == ["late rows"]
    assert chunk_statuses(database) == [1, 1, 1, 0]
    rowstore = "SELECT index_bytes FROM chunks_detailed_size('events') ORDER BY chunk_name LIMIT 1"
    assert database.execute(rowstore).fetchone()[0] < 200_000  # type: ignore[index]
    other = DesiredPolicy(WEEK.after, CompressionLayout.parse("event_type", ""))
    set_layout(database, other, words)
    assert [one.why for one in again(other)] == ["it had segmentby –, orderby time DESC"] * 3
    assert [state.layout for state in chunk_states(database, default_table(database))] == [other.layout] * 3 + [None]
    assert again(other) == []
    assert chunk_statuses(database) == [1, 1, 1, 0]
    assert table_digest(database) == before
