"""Rows in old chunks, inserted without Spillway, and the state of these chunks."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from infra.timescaledb import CHUNK_STATUS
from tests.support.waiting import wait_until

MONDAY = datetime(2020, 1, 6, tzinfo=UTC)


def fill_weeks(connection: psycopg.Connection, weeks: int = 3, rows: int = 2_000) -> None:
    """Insert `rows` rows, evenly spread, into each of `weeks` weeks from `MONDAY` on."""
    connection.execute(
        """INSERT INTO events
           SELECT %(start)s::timestamptz + i * interval '1 week' / %(rows)s, md5(i::text)::uuid, 'type-' || i %% 5,
                  'user-' || i %% 50, jsonb_build_object('n', i)
             FROM generate_series(0, %(weeks)s * %(rows)s - 1) AS i""",
        {"start": MONDAY, "weeks": weeks, "rows": rows},
    )


def chunk_statuses(connection: psycopg.Connection, table: str = "events") -> list[int]:
    """The status bits of the chunks, ordered by time: 0 is uncompressed, 1 compressed, 9 compressed and partial."""
    query = f"""
        SELECT {CHUNK_STATUS}(format('%%I.%%I', chunk_schema, chunk_name)::regclass)
          FROM timescaledb_information.chunks WHERE hypertable_name = %s ORDER BY range_start"""
    return [status for (status,) in connection.execute(query, [table])]


def only_job(connection: psycopg.Connection, procedure: str) -> int:
    """The id of the only job of `events` that runs this procedure."""
    query = "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'events' AND proc_name = %s"
    ((job,),) = connection.execute(query, [procedure]).fetchall()
    found: int = job
    return found


def paused_job(connection: psycopg.Connection, procedure: str) -> int:
    """`only_job`, which the scheduler no longer runs by itself: the test decides when it runs."""
    job = only_job(connection, procedure)
    connection.execute("SELECT alter_job(%s, next_start => now() + interval '1 day')", [job])
    return job


def run_job(connection: psycopg.Connection, procedure: str) -> None:
    """Run a job of the database now, after a run that the scheduler may have started."""
    job = paused_job(connection, procedure)
    query = "SELECT job_status FROM timescaledb_information.job_stats WHERE job_id = %s"
    wait_until(lambda: connection.execute(query, [job]).fetchone() != ("Running",))
    connection.execute("CALL run_job(%s)", [job])
