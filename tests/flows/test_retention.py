"""Retention by the maintain flow: what is dropped, what stays, what is recorded, and what is a violation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis

import tasks.maintain.contention
from flows.drain import drain
from flows.maintain import maintain
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tasks.maintain.check import slowest_load
from tasks.maintain.maintain_report import VIOLATION_EVENT
from tests.support.chunk_states import only_job, run_job
from tests.support.default_table import default_table
from tests.support.old_events import chunk_ends, old_events, recorded_drops, rows_within
from tests.support.oracle import Key, Row, flat_rows, ledger_sums, table_rows
from tests.support.prefect_events import awaited_events
from tests.support.processes import Drain
from tests.support.servers import Servers

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]


def retention_jobs(connection: psycopg.Connection) -> list[tuple[str, bool]]:
    query = """SELECT config->>'drop_after', scheduled FROM timescaledb_information.jobs
                WHERE hypertable_name = 'events' AND proc_name = 'policy_retention'"""
    return connection.execute(query).fetchall()


@pytest.mark.parametrize("way", ["flow", "archive"])
def test_chunks_wholly_past_the_horizon_are_dropped_and_all_others_stay(
    way: str, drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(keep="30d", retention=way, archive_url=tmp_path)
    ranges = chunk_ends(database)
    left = rows_within(drained, ranges, timedelta(days=30))
    assert 0 < len(left) < len(drained)
    found = maintain()
    assert table_rows(database) == left
    gone = len(drained) - len(left)
    assert (found["ok"], sum(one["rows"] for one in found["dropped"]), recorded_drops(database)) == (True, gone, gone)
    assert found["row_audit"] | {"since": None} == {
        "since": None, "inserted": len(drained), "rows": len(left), "dropped": gone, "checked": True, "missing": 0,
        "redriven": 0,
    }  # fmt: skip
    assert found["retention"]["oldest"] == min(key[1] for key in left)
    assert len(list(tmp_path.rglob("_manifests/*.json"))) == (len(found["dropped"]) if way == "archive" else 0)
    again = maintain()
    assert (again["ok"], again["dropped"], table_rows(database)) == (True, [], left)


def test_nothing_is_ever_dropped_unless_asked(drained: dict[Key, Row], database: psycopg.Connection) -> None:
    found = maintain()
    assert (found["dropped"], found["retention"]["horizon"], found["retention"]["next_run"]) == ([], None, None)
    assert table_rows(database) == drained


def test_the_next_run_drops_what_the_report_announced(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(keep="30d")
    coming = maintain(dry_run=True)
    planned = coming["retention"]["next_run"]
    assert table_rows(database) == drained
    ranges = chunk_ends(database)
    found = maintain()
    assert (planned["chunks"], planned["rows"]) == (len(found["dropped"]), sum(one["rows"] for one in found["dropped"]))
    assert (planned["start"], planned["end"]) == (ranges[0][0], ranges[planned["chunks"] - 1][1])
    assert [one["chunk"] for one in coming["dropped"]] == [one["chunk"] for one in found["dropped"]]
    (overdue,) = coming["retention"]["overdue"]
    assert overdue.startswith(f"{planned['chunks']} chunks should be gone since")
    assert coming["ok"]


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_the_databases_own_job_is_set_changed_woken_and_removed_and_drops(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(keep="45d", retention="policy", compress_after="")
    assert maintain()["changes"] == ["retention policy added: after 45 days"]
    configure(keep="30d")
    assert maintain()["changes"] == [
        "retention policy after 45 days: removed",
        "retention policy added: after 30 days",
    ]
    assert retention_jobs(database) == [("30 days", True)]
    job = only_job(database, "policy_retention")
    database.execute("SELECT alter_job(%s, scheduled => false)", [job])
    assert maintain(fail=False)["changes"] == [f"retention policy: job {job} was disabled, enabled again"]
    ranges = chunk_ends(database)
    run_job(database, "policy_retention")
    left = rows_within(drained, ranges, timedelta(days=30)) if len(ranges) > 5 else table_rows(database)
    assert table_rows(database) == left
    assert min(key[1] for key in left) > datetime.now(UTC) - timedelta(days=38)
    found = maintain()
    assert (found["ok"], found["changes"], found["dropped"]) == (True, [], [])
    assert found["row_audit"]["missing"] == 0
    configure(keep="")
    removed = maintain()
    assert removed["changes"] == [
        "retention policy after 30 days: removed, SPILLWAY_KEEP is empty, nothing is to be dropped"
    ]
    assert retention_jobs(database) == []
    assert (removed["ok"], removed["row_audit"]["missing"]) == (True, 0)
    assert table_rows(database) == left


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_a_policy_is_removed_and_reported_if_the_flow_drops(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    database.execute(
        "SELECT add_retention_policy('events', interval '1 year', initial_start => now() + interval '1 day')"
    )
    configure(keep="300d")
    assert "retention policy after 365 days: removed, SPILLWAY_RETENTION is flow" in maintain()["changes"]
    assert retention_jobs(database) == []
    assert table_rows(database) == drained


def test_a_policy_on_the_apache_edition_is_refused_and_nothing_is_dropped(
    servers: Servers, drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    if servers.edition != "Apache":
        pytest.skip("this is not the Apache edition")
    configure(keep="30d", retention="policy")
    with pytest.raises(
        Terminal,
        match="Community edition of TimescaleDB, found Apache; nothing was dropped; set SPILLWAY_RETENTION=flow",
    ):
        maintain()
    assert table_rows(database) == drained


def test_deleted_events_within_the_horizon_fail_the_run_and_emit_an_event(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(keep="30d")
    maintain()
    victims = [key for key in table_rows(database) if key[1] > datetime.now(UTC) - timedelta(days=2)]
    database.execute("DELETE FROM events WHERE time > now() - interval '2 days'")
    with pytest.raises(Terminal, match=f"{len(victims)} events are gone: the ledger says"):
        maintain()
    found = awaited_events("spillway.table.events", f"{len(victims)} events are gone")
    assert found[-1]["event"] == VIOLATION_EVENT


# Not by name: chunk 10 comes before chunk 1 in some locales.
_OLDEST = """
    SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks
     WHERE hypertable_name = 'events' ORDER BY range_start LIMIT 1"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between attempts, and short ones."""
    for name in ("_PAUSE_SECONDS", "_WRITERS_SECONDS", "_ALONE_SECONDS"):
        monkeypatch.setattr(tasks.maintain.contention, name, 0.05)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("mode", ["ROW EXCLUSIVE", "ACCESS SHARE"])
def test_a_chunk_in_use_waits_for_the_next_run_and_its_user_is_not_disturbed(
    mode: str, servers: Servers, drained: dict[Key, Row], database: psycopg.Connection,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    # Without a policy: its job would wait for that user too, and everybody else for the job.
    configure(keep="30d", retries="1", compress_after="")
    ranges = chunk_ends(database)
    left = rows_within(drained, ranges, timedelta(days=30))
    with psycopg.connect(servers.settings.database) as other:
        ((oldest,),) = other.execute(_OLDEST).fetchall()
        other.execute(f"LOCK TABLE {oldest} IN {mode} MODE")
        found = maintain(fail=False)
        other.execute("SELECT count(*) FROM events")
        other.commit()
    assert any("it stays in use; nothing was dropped; the next run tries again" in text for text in found["warnings"])
    held = [key for key in table_rows(database) if key not in left]
    assert 0 < len(held) < len(drained) - len(left)
    assert recorded_drops(database) == len(drained) - len(left) - len(held)
    assert maintain()["ok"]
    assert table_rows(database) == left


def test_drains_of_late_events_during_maintenance_lose_nothing(
    servers: Servers, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    """While drains write, chunks are dropped and compressed: each event is in the table or in a counted drop."""
    configure(keep="30d", compress_after="7d")
    entries = [event for first in range(6) for event in old_events(first=first * 100_000, per_day=80)]
    send(redis_client, stream, entries[:1_000])
    drain(stream)
    send(redis_client, stream, entries[1_000:])
    small = env | {"SPILLWAY_BATCH_ROWS": "500"}
    pair = [Drain(stream, small), Drain(stream, small)]
    runs = []
    while any(one.process.is_alive() for one in pair):
        runs.append(maintain(fail=False))
        # The server's own job may compress the same chunk at the same moment, and one of the two fails.
        if servers.edition == "Community":
            with suppress(psycopg.errors.DuplicateObject):
                database.execute(
                    "SELECT compress_chunk(c) FROM show_chunks('events', older_than => interval '10 days') AS c"
                )
    results = [one.finished() for one in pair]
    assert [result.get("error") for result in results] == [None, None]
    assert [run["violations"] for run in runs] == [[]] * len(runs)
    assert drain(stream)["lag"] == 0
    last = maintain()
    rows = flat_rows(entries)
    assert ledger_sums(database, stream)[:2] == (len(entries), len(rows))
    there = table_rows(database)
    assert there.items() <= rows.items()
    horizon = datetime.now(UTC) - timedelta(days=30)
    assert {key for key in rows if key[1] > horizon} <= there.keys()
    assert len(there) + recorded_drops(database) == len(rows)
    assert last["row_audit"]["missing"] == 0


def test_the_slowest_load_is_the_longest_that_ran_during_the_run(database: psycopg.Connection) -> None:
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES ('s', 0)")
    now = datetime.now(UTC)
    for place, (before, seconds) in enumerate([(20, 9.0), (6, 3.0), (4, 1.0)]):
        database.execute(
            "INSERT INTO spillway.ledger (stream, ids, loaded_by, loaded_at, seconds)"
            " SELECT id, numrange(%s, %s), 'test', %s, %s FROM spillway.streams",
            [place, place + 1, now - timedelta(seconds=before), seconds],
        )
    assert slowest_load(database, default_table(database), now - timedelta(seconds=5), now, []) == 3.0
    assert slowest_load(database, default_table(database), now - timedelta(seconds=2), now, []) is None


def test_a_check_that_fails_reports_what_was_done_before(
    drained: dict[Key, Row], database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    """Chunks have been dropped by then, and there is no other report of it."""
    configure(keep="30d", compress_after="", retries=0)
    database.execute("ALTER TABLE spillway.ledger RENAME COLUMN seconds TO others")
    try:
        with pytest.raises(Terminal, match=r"^maintain: check: .*; \d+ chunks dropped: "):
            maintain()
    finally:
        database.execute("ALTER TABLE spillway.ledger RENAME COLUMN others TO seconds")
    assert 0 < recorded_drops(database) == len(drained) - len(table_rows(database))
