"""The maintain flow on real servers: compression and its check, on real events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from prefect.artifacts import Artifact

from flows.drain import drain
from flows.maintain import maintain
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.chunk_states import chunk_statuses, fill_weeks, paused_job, run_job
from tests.support.command_line import RunSpillway
from tests.support.oracle import crossref_rows, table_digest, table_rows
from tests.support.real_data import large_file
from tests.support.servers import Servers
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

ARRIVAL = "bench_arrival_2019-08_2019-12.ndjson.gz"

# By event id, by user over a span, by type over a span, per hour, by JSON containment, the latest.
QUESTIONS = [
    "SELECT * FROM events WHERE event_id = (SELECT event_id FROM events ORDER BY event_id LIMIT 1)",
    """SELECT * FROM events WHERE user_id = (SELECT mode() WITHIN GROUP (ORDER BY user_id) FROM events)
        AND time >= '2019-08-05' AND time < '2019-12-20' ORDER BY time, event_id""",
    """SELECT time, event_id, user_id FROM events WHERE event_type = 'wikipedia.references'
        AND time >= '2019-10-01' AND time < '2019-10-15' ORDER BY time, event_id""",
    "SELECT date_trunc('hour', time) AS hour, event_type, count(*) FROM events GROUP BY 1, 2 ORDER BY 1, 2",
    """SELECT event_id, properties FROM events WHERE properties @> (
           SELECT jsonb_build_object('obj_id', properties->'obj_id') FROM events ORDER BY event_id LIMIT 1)
        ORDER BY event_id""",
    "SELECT * FROM events ORDER BY time DESC, event_id LIMIT 100",
]


def answers(connection: psycopg.Connection) -> list[list[tuple[Any, ...]]]:
    found = [connection.execute(question).fetchall() for question in QUESTIONS]
    assert all(found)
    return found


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_real_events_are_compressed_answer_as_before_and_a_late_batch_is_compressed_again(
    redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    with gzip.open(large_file(ARRIVAL)) as file:
        lines = [line.rstrip(b"\n") for line in file]
    late = lines[::40]
    kept_back = set(range(0, len(lines), 40))
    send(redis_client, "crossref-feed", ({b"data": line} for n, line in enumerate(lines) if n not in kept_back))
    drain("crossref-feed")
    before = answers(database)
    digest = table_digest(database)
    assert maintain()["changes"] == [
        "compression set: segmentby –, orderby time DESC",
        "compression policy added: after 7 days",
    ]
    run_job(database, "policy_compression")
    assert set(chunk_statuses(database)) == {1}
    assert answers(database) == before
    assert table_digest(database) == digest
    found = maintain()
    assert (found["ok"], found["changes"]) == (True, [])
    assert found["compression"]["ratio"] >= 5
    assert found["compression"]["compressed"] == len(found["chunks"]) == len(chunk_statuses(database))
    assert all(chunk["ratio"] >= 5 for chunk in found["chunks"] if chunk["rows"] > 1_000)

    send(redis_client, "crossref-feed", ({b"data": line} for line in late))
    result = drain("crossref-feed")
    assert result["read"] == len(late) == result["inserted"] + result["duplicates"]
    assert table_rows(database) == crossref_rows(lines)
    partial = chunk_statuses(database).count(9)
    assert partial > 1
    digest = table_digest(database)
    again = maintain()
    assert len(again["compressed_again"]) == partial
    assert set(chunk_statuses(database)) == {1}
    assert (again["ok"], again["row_audit"]["missing"], again["compression"]["partial"]) == (True, 0, 0)
    assert again["compression"]["ratio"] >= 5
    assert table_digest(database) == digest
    assert maintain()["compressed_again"] == []


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_another_interval_layout_or_a_sleeping_job_is_repaired_and_reported(
    database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    fill_weeks(database)
    maintain()
    run_job(database, "policy_compression")
    digest = table_digest(database)
    configure(compress_after="3d", compress_segmentby="event_type")
    changed = maintain()
    assert changed["changes"] == [
        "compression set: segmentby event_type, orderby time DESC instead of segmentby –, orderby time DESC",
        "compression policy after 7 days: removed",
        "compression policy added: after 3 days",
    ]
    assert len(changed["compressed_again"]) == len(chunk_statuses(database))
    query = "SELECT DISTINCT segmentby, orderby FROM timescaledb_information.chunk_compression_settings"
    assert database.execute(query).fetchall() == [("event_type", '"time" DESC')]
    assert table_digest(database) == digest
    job = paused_job(database, "policy_compression")
    database.execute("SELECT alter_job(%s, scheduled => false)", [job])
    dry = maintain(dry_run=True)
    assert dry["changes"] == [f"compression policy: job {job} was disabled, enabled again"]
    assert database.execute(
        "SELECT scheduled FROM timescaledb_information.jobs WHERE job_id = %s", [job]
    ).fetchone() == (False,)
    assert maintain()["changes"] == dry["changes"]
    assert database.execute(
        "SELECT scheduled FROM timescaledb_information.jobs WHERE job_id = %s", [job]
    ).fetchone() == (True,)
    assert maintain()["changes"] == []


@pytest.fixture
def impatient(database: psycopg.Connection) -> Iterator[None]:
    """A database whose jobs do not wait for locks, while another session holds one on every chunk."""
    (name,) = database.execute("SELECT current_database()").fetchone() or ("",)
    database.execute(f"ALTER DATABASE {name} SET lock_timeout = '100ms'")
    yield
    database.execute(f"ALTER DATABASE {name} RESET lock_timeout")


@pytest.mark.community
@pytest.mark.usefixtures("community", "impatient")
def test_a_failing_job_is_a_violation_with_its_error_until_it_works_again(
    servers: Servers, database: psycopg.Connection
) -> None:
    fill_weeks(database, weeks=2)
    maintain()
    job = paused_job(database, "policy_compression")
    wait_for_end(database, job, runs=0)
    with psycopg.connect(servers.settings.database) as other:
        other.execute("SET lock_timeout = 0")
        other.commit()
        while True:
            decompress(database)
            other.execute("LOCK TABLE events IN ROW EXCLUSIVE MODE")
            if set(chunk_statuses(database)) == {0}:
                break
            other.rollback()  # the scheduler had begun a run before it was put to sleep
        runs = wait_for_end(database, job, runs=0)
        database.execute("SELECT alter_job(%s, next_start => now())", [job])
        for attempt in range(1, 6):  # the scheduler may try it again at this very moment
            wait_for_end(database, job, runs=runs + attempt)
            found = maintain(fail=False)
            if not found["ok"]:
                break
            database.execute("SELECT alter_job(%s, next_start => now())", [job])
        other.rollback()
    assert not found["ok"], found
    (violation,) = found["violations"]
    assert "chunks past 7 days are not fully compressed" in violation
    assert f"job {job} failed: " in violation
    with pytest.raises(Terminal, match=f"job {job} failed"):
        maintain()
    run_job(database, "policy_compression")
    assert maintain()["ok"]


def wait_for_end(connection: psycopg.Connection, job: int, runs: int) -> int:
    """Wait until the scheduler has finished `runs` runs and none is in progress; returns their number."""
    query = "SELECT coalesce(total_runs, 0), job_status FROM timescaledb_information.job_stats WHERE job_id = %s"

    def finished() -> int | None:
        ((total, status),) = connection.execute(query, [job]).fetchall()
        return int(total) if total >= runs and status != "Running" else None

    wait_until(lambda: finished() is not None, 240)
    return finished() or 0


def decompress(connection: psycopg.Connection) -> None:
    """Decompress the chunk, whatever the scheduler has done."""
    connection.execute("SELECT decompress_chunk(c, true) FROM show_chunks('events') AS c")


def test_on_the_apache_edition_compression_is_one_warning_and_no_failure(
    servers: Servers, database: psycopg.Connection
) -> None:
    if servers.edition != "Apache":
        pytest.skip("this is not the Apache edition")
    fill_weeks(database)
    found = maintain()
    assert (found["ok"], found["edition"], found["changes"]) == (True, "Apache", [])
    (warning,) = found["warnings"]
    assert "needs the Community edition" in warning
    assert {chunk["next"] for chunk in found["chunks"]} == {"stays"}


def test_the_report_is_a_table_of_chunks_that_a_person_can_read(
    database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(keep="30d", compress_after="")
    fill_weeks(database, weeks=2, rows=1_500)
    maintain(dry_run=True)
    artifact = Artifact.get("maintain")
    assert artifact is not None
    rows = json.loads(str(artifact.data))
    assert [(row["from"], row["to"], row["rows"]) for row in rows] == [
        ("2020-01-02", "2020-01-09", "643"),
        ("2020-01-09", "2020-01-16", "1,500"),
        ("2020-01-16", "2020-01-23", "857"),
    ]
    assert {row["next"] for row in rows} == {"drop: the next run"}
    assert {row["state"] for row in rows} == {"rows"}
    assert all(row["age"].endswith(" days") and row["size"].endswith(" kB") for row in rows)
    assert str(artifact.description).startswith("a dry run, nothing was changed; all is well\n")
    assert "3 chunks would be dropped: 3,000 rows" in str(artifact.description)


def test_the_command_prints_the_same_as_a_table_or_as_json_and_its_exit_code_is_the_verdict(
    spillway: RunSpillway, database: psycopg.Connection
) -> None:
    fill_weeks(database, weeks=1, rows=10)
    code, out, _ = spillway("maintain", "--dry-run", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, found["ok"], found["dry_run"]) == (0, True, True)
    assert [chunk["rows"] for chunk in found["chunks"]] == [5, 5]
    code, out, _ = spillway("maintain")
    assert code == 0
    names = [name for (name,) in database.execute("SELECT chunk_name FROM timescaledb_information.chunks")]
    assert [f"  {name} " in out for name in names] == [True, True]
    assert {chunk["chunk"] for chunk in found["chunks"]} == set(names)
    assert "nothing is ever dropped" in out
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('s', 0)")
    database.execute(
        "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, max_time, loaded_by)"
        " SELECT id, numrange(0, 1), 11, 11, 11, '2020-01-06', '2020-01-07', 'test' FROM spillway.streams"
    )
    code, out, _ = spillway("maintain")
    assert code == 1
    assert "violation: 1 event is gone" in out


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_a_step_that_fails_does_not_stop_the_others_and_fails_the_run(
    database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    """The server refuses a column in both lists; expired chunks are dropped all the same."""
    configure(compress_segmentby="user_id", compress_orderby="user_id", keep="30d")
    fill_weeks(database, weeks=1, rows=10)
    found = maintain(fail=False)
    (violation,) = found["violations"]
    assert violation.startswith("set compression policy: PostgreSQL at ")
    assert (found["row_audit"]["checked"], len(found["dropped"]), len(table_rows(database))) == (True, 2, 0)


def nothing_set(connection: psycopg.Connection) -> bool:
    jobs = connection.execute("SELECT FROM timescaledb_information.jobs WHERE hypertable_name = 'events'").fetchall()
    enabled = connection.execute("SELECT compression_enabled FROM timescaledb_information.hypertables").fetchone()
    return jobs == [] and enabled == (False,)


def test_a_dry_run_reports_everything_and_changes_nothing(
    servers: Servers, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    fill_weeks(database)
    digest, chunks = table_digest(database), chunk_statuses(database)
    configure(keep="30d", retention="archive", archive_url=tmp_path / "archive")
    found = maintain(dry_run=True)
    assert (table_digest(database), chunk_statuses(database)) == (digest, chunks)
    assert nothing_set(database)
    assert database.execute("SELECT count(*) FROM spillway.drops").fetchone() == (0,)
    assert not (tmp_path / "archive").exists()
    assert [one["chunk"] for one in found["dropped"]] == [one["chunk"] for one in found["chunks"]]
    assert found["retention"]["next_run"]["rows"] == 6_000
    assert len(found["changes"]) == (2 if servers.edition == "Community" else 0)
