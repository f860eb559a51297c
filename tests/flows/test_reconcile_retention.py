"""Rows that retention dropped are no loss for a reconciliation, and it does not put them back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from prefect.artifacts import Artifact

from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tasks.ledger.merge_ranges import merge_ranges
from tests.support.chunk_states import run_job
from tests.support.command_line import RunSpillway
from tests.support.ledger_edits import edit_ledger
from tests.support.old_events import old_events
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

LATE = 900_000  # the number of the first late event


def compare(stream: str, repair: bool = False) -> tuple[int, int, list[tuple[str, int]]]:
    """The dropped entries, the rows put back, and the findings of a deep reconciliation."""
    result: dict[str, Any] = reconcile(stream, deep=True, fail=False, repair=repair)
    return result["dropped"], result["repaired"], [(found["what"], found["count"]) for found in result["findings"]]


@pytest.fixture
def sent(redis_client: redis.Redis, database: psycopg.Connection, stream: str) -> list[dict[bytes, bytes]]:
    """Events of 60 days, drained into the table; one of ten came twice."""
    entries = old_events()
    entries += entries[::10]
    send(redis_client, stream, entries)
    drain(stream)
    assert compare(stream) == (0, 0, [])
    return entries


def late(redis_client: redis.Redis, stream: str, numbers: range) -> list[dict[bytes, bytes]]:
    """Old events that arrive now and are drained."""
    moment = (datetime.now(UTC) - timedelta(days=50)).isoformat()
    entries = [event(LATE + n, time=moment) for n in numbers]
    send(redis_client, stream, entries)
    drain(stream)
    return entries


def gone(sent: list[dict[bytes, bytes]], database: psycopg.Connection) -> int:
    """The entries whose event is not in the table."""
    there = table_rows(database)
    number = sum(not flat_rows([entry]).keys() <= there.keys() for entry in sent)
    assert 0 < number < len(sent)
    return number


def delete(database: psycopg.Connection, entry: dict[bytes, bytes]) -> None:
    database.execute("DELETE FROM events WHERE event_id = %s", [entry[b"event_id"].decode()])


@pytest.mark.parametrize("way", ["flow", "archive"])
def test_dropped_rows_are_counted_and_late_events_after_the_drop_are_checked(
    way: str, sent: list[dict[bytes, bytes]], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings], tmp_path: Path,
) -> None:  # fmt: skip
    configure(keep="30d", retention=way, archive_url=tmp_path, compress_after="")
    maintain()
    rows, dropped = table_rows(database), gone(sent, database)
    assert compare(stream) == (dropped, 0, [])
    assert compare(stream, repair=True) == (dropped, 0, [])
    assert table_rows(database) == rows
    artifact = Artifact.get("reconcile")
    assert artifact is not None
    assert f"{dropped} dropped by retention" in str(artifact.description)

    came = late(redis_client, stream, range(3))  # their chunk is created again
    assert compare(stream) == (dropped, 0, [])
    delete(database, came[1])
    delete(database, sent[475])  # of a day within the time to keep; it came once
    assert compare(stream) == (dropped, 0, [("missing", 2)])
    assert compare(stream, repair=True) == (dropped, 2, [])
    assert table_rows(database) == rows | flat_rows(came)

    maintain()  # drops the late ones too
    assert table_rows(database) == rows
    assert compare(stream, repair=True) == (dropped + 3, 0, [])
    assert table_rows(database) == rows


def test_an_entry_of_a_merged_range_is_not_missing_if_it_may_have_been_dropped(
    sent: list[dict[bytes, bytes]], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(keep="30d", compress_after="", batch_rows=1)
    maintain()
    dropped = gone(sent, database)
    late(redis_client, stream, range(120))
    configure(batch_rows=50_000)
    maintain()
    assert compare(stream) == (dropped + 120, 0, [])
    edit_ledger(database, "UPDATE spillway.ledger SET loaded_at = loaded_at - interval '3 days'")
    database.execute("UPDATE spillway.drops SET dropped_at = dropped_at - interval '3 days'")
    ((stream_id,),) = database.execute("SELECT id FROM spillway.streams").fetchall()
    merge_ranges(database, stream_id)
    assert database.execute("SELECT count(*) FROM spillway.ledger").fetchone() == (1,)
    assert compare(stream, repair=True) == (dropped + 120, 0, [])
    delete(database, sent[475])  # within the time to keep nothing is dropped
    assert compare(stream) == (dropped + 120, 0, [("missing", 1)])


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_rows_that_the_databases_job_dropped_uncounted_are_no_loss(
    sent: list[dict[bytes, bytes]], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(keep="30d", retention="policy", compress_after="")
    maintain()
    run_job(database, "policy_retention")
    rows, dropped = table_rows(database), gone(sent, database)
    assert compare(stream, repair=True) == (dropped, 0, [])
    late(redis_client, stream, range(3))
    # Loaded after the chunk was created again, so these must be in it.
    came = late(redis_client, stream, range(3, 6))
    delete(database, came[1])
    assert compare(stream) == (dropped, 0, [("missing", 1)])
    assert compare(stream, repair=True) == (dropped, 1, [])
    run_job(database, "policy_retention")
    assert table_rows(database) == rows
    assert compare(stream, repair=True) == (dropped + 6, 0, [])

    configure(keep="", retention="flow")
    maintain()  # removes the job and records how far it may have dropped
    assert compare(stream, repair=True) == (dropped + 6, 0, [])
    came = late(redis_client, stream, range(6, 9))
    delete(database, came[0])
    assert compare(stream) == (dropped + 6, 0, [("missing", 1)])
    assert compare(stream, repair=True) == (dropped + 6, 1, [])
    assert table_rows(database) == rows | flat_rows(came)


def test_the_command_reports_the_dropped_rows_and_that_all_balances(
    sent: list[dict[bytes, bytes]], spillway: RunSpillway, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(keep="30d", compress_after="")
    maintain()
    code, out, _ = spillway("reconcile", "--stream", stream, "--deep")
    assert code == 0
    assert f"{gone(sent, database)} of them are no longer in the table: retention dropped their chunks" in out
    assert "everything balances" in out
