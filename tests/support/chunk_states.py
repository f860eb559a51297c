"""Rows in chunks of the past, put in without Spillway, and what the server says of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psycopg

from infra.timescaledb import CHUNK_STATUS

MONDAY = datetime(2020, 1, 6, tzinfo=UTC)


def fill_weeks(connection: psycopg.Connection, weeks: int = 3, rows: int = 2_000) -> None:
    """So many rows in each of so many weeks from `MONDAY` on, spread evenly."""
    connection.execute(
        """INSERT INTO events
           SELECT %(start)s::timestamptz + i * interval '1 week' / %(rows)s, md5(i::text)::uuid, 'type-' || i %% 5,
                  'user-' || i %% 50, jsonb_build_object('n', i)
             FROM generate_series(0, %(weeks)s * %(rows)s - 1) AS i""",
        {"start": MONDAY, "weeks": weeks, "rows": rows},
    )


def chunk_statuses(connection: psycopg.Connection) -> list[int]:
    """The status bits of the chunks, by time: 0 rows, 1 compressed, 9 compressed and partial."""
    query = f"""
        SELECT {CHUNK_STATUS}(format('%I.%I', chunk_schema, chunk_name)::regclass)
          FROM timescaledb_information.chunks WHERE hypertable_name = 'events' ORDER BY range_start"""
    return [status for (status,) in connection.execute(query)]


def only_job(connection: psycopg.Connection, procedure: str) -> int:
    """The id of the one job of that kind for `events`."""
    query = "SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name = 'events' AND proc_name = %s"
    ((job,),) = connection.execute(query, [procedure]).fetchall()
    found: int = job
    return found


def paused_job(connection: psycopg.Connection, procedure: str) -> int:
    """The same, and the scheduler does not run it by itself: tests say when."""
    job = only_job(connection, procedure)
    connection.execute("SELECT alter_job(%s, next_start => now() + interval '1 day')", [job])
    return job


def run_job(connection: psycopg.Connection, procedure: str) -> None:
    """Run the database's job here and now, with the scheduler's own run, which may have begun, out of the way."""
    job = paused_job(connection, procedure)
    deadline = time.monotonic() + 60
    query = "SELECT job_status FROM timescaledb_information.job_stats WHERE job_id = %s"
    while connection.execute(query, [job]).fetchone() == ("Running",):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    connection.execute("CALL run_job(%s)", [job])
