"""The runs of a policy, from the database's history as far as it is kept. The server itself runs the job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from infra.tables.read_table import read_table
from tasks.base.clock import server_now
from tasks.maintain.jobs import read_job_runs, read_jobs
from tests.support.chunk_states import fill_weeks, only_job
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.community, pytest.mark.usefixtures("community")]
LOGGED = "timescaledb.enable_job_execution_logging"
HOUR = timedelta(hours=1)
# A run counts as failed, and has no status, until it has ended.
_COUNTS = """
    SELECT total_runs, total_failures, last_run_status FROM timescaledb_information.job_stats
     WHERE job_id = %s AND job_status <> 'Running' AND last_run_status IS NOT NULL"""


@pytest.fixture
def logged(database: psycopg.Connection) -> Iterator[None]:
    """A server that logs every execution of a job."""
    database.execute(f"ALTER SYSTEM SET {LOGGED} = on".encode())
    try:
        database.execute("SELECT pg_reload_conf()")
        wait_until(lambda: database.execute(f"SHOW {LOGGED}".encode()).fetchone() == ("on",))
        # The scheduler that runs may read the setting later.
        database.execute("SELECT _timescaledb_functions.restart_background_workers()")
        yield
    finally:
        database.execute(f"ALTER SYSTEM RESET {LOGGED}".encode())
        database.execute("SELECT pg_reload_conf()")


def run_twice(database: psycopg.Connection) -> tuple[int, int, str]:
    """Let the scheduler run a new compression policy twice. Returns what the server counted: the runs, those that
    failed, and the status of the last one."""
    fill_weeks(database)
    database.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time DESC')")
    database.execute("SELECT add_compression_policy('events', interval '7 days')")
    job = only_job(database, "policy_compression")

    def counts() -> tuple[int, int, str]:
        return database.execute(_COUNTS, [job]).fetchone() or (0, 0, "")

    wait_until(lambda: counts()[0] == 1)  # the scheduler runs a new policy at once
    database.execute("SELECT alter_job(%s, next_start => now())", [job])
    wait_until(lambda: counts()[0] == 2)
    return counts()


def runs(connection: psycopg.Connection, span: timedelta) -> int:
    """How many runs of the compression policy are found within a time."""
    jobs = read_jobs(connection, read_table(connection, "public.events"), "compression")
    found = read_job_runs(connection, jobs, server_now(connection) - span)
    assert found == sorted(found)
    assert all(seconds is not None and seconds >= 0 for _, seconds in found)
    return len(found)


def test_without_a_log_of_executions_the_last_run_and_the_failed_ones_are_found(database: psycopg.Connection) -> None:
    _, failed, last = run_twice(database)
    assert runs(database, HOUR) == failed + (last == "Success")


@pytest.mark.usefixtures("logged")
def test_with_a_log_of_executions_every_run_of_the_period_is_found_once(database: psycopg.Connection) -> None:
    total, _, _ = run_twice(database)
    assert runs(database, HOUR) == total
    assert runs(database, timedelta(0)) == 1, "the last one is always known"


def test_without_a_policy_there_are_none(database: psycopg.Connection) -> None:
    assert runs(database, HOUR) == 0
