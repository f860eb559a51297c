"""A loss that was recorded by mistake is reversed exactly: every entry is drained once, and everything balances."""

from __future__ import annotations

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.reconcile import reconcile
from infra.settings import settings
from tests.support.command_line import RunSpillway
from tests.support.old_releases import record_as_lost
from tests.support.oracle import flat_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.results import drain_counts, findings_of
from tests.support.runs import drain_with_loss
from tests.support.stream_entries import FIRST_MS, add_entries, event

pytestmark = pytest.mark.usefixtures("prefect_server")


def compared(stream: str) -> int:
    """The number of entries that a deep reconciliation compares; it must find nothing wrong."""
    result = reconcile(stream, deep=True, fail=False)
    assert findings_of(result) == []
    return int(result["compared"])


@pytest.mark.parametrize("how", ["the same row", "a row of its own", "not settled"])
@pytest.mark.parametrize("added_later", [0, 25])
def test_existing_entries_recorded_as_lost_are_drained_once(
    how: str,
    added_later: int,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    spillway: RunSpillway,
) -> None:
    add_entries(redis_client, stream, 0, 100)
    record_as_lost(database, redis_client, stream, 40, 100, how)
    if added_later:
        add_entries(redis_client, stream, 100, 100 + added_later)
        if how != "not settled":
            drain(stream)
    code, out, err = spillway("stream", "recover", stream)
    assert code == 0, err
    assert f"60 entries will be drained (spillway drain --stream {stream}); 0 stay lost" in out
    drained = drain_counts(drain(stream))
    assert drained[0] == 60 + (added_later if how == "not settled" else 0)
    assert drained[2:] == (0, 0, 0)
    assert table_rows(database) == flat_rows(event(n) for n in range(100 + added_later))
    assert ledger_is_whole(database, stream)
    assert ledger_sums(database, stream) == (100 + added_later, 100 + added_later, 0, 0)
    assert database.execute("SELECT lost FROM spillway.streams").fetchone() == (0,)
    assert compared(stream) == 100 + added_later
    code, out, _ = spillway("stream", "recover", stream)
    assert (code, "0 entries will be drained" in out) == (0, True)


@pytest.mark.parametrize("how", ["the same row", "a row of its own"])
def test_entries_that_no_longer_exist_stay_lost(
    how: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str, spillway: RunSpillway
) -> None:
    add_entries(redis_client, stream, 0, 100)
    record_as_lost(database, redis_client, stream, 40, 100, how)
    redis_client.xtrim(stream, minid=f"{FIRST_MS + 50}-0", approximate=False)
    code, out, err = spillway("stream", "recover", stream)
    assert code == 0, err
    assert "50 entries will be drained" in out
    assert "10 stay lost" in out
    assert drain_counts(drain(stream)) == (50, 50, 0, 0, 0)
    assert table_rows(database) == flat_rows(event(n) for n in (*range(40), *range(50, 100)))
    assert ledger_is_whole(database, stream)
    lost = database.execute("SELECT lost, (SELECT sum(lost) FROM spillway.ledger) FROM spillway.streams").fetchone()
    assert lost == (10, 10)
    assert compared(stream) == 50  # what the stream still holds


def test_drained_entries_may_be_trimmed_meanwhile(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, spillway: RunSpillway
) -> None:
    add_entries(redis_client, stream, 0, 100)
    record_as_lost(database, redis_client, stream, 40, 100, "the same row")
    redis_client.xtrim(stream, minid=f"{FIRST_MS + 30}-0", approximate=False)
    assert "60 entries will be drained" in spillway("stream", "recover", stream)[1]
    assert drain_counts(drain(stream)) == (60, 60, 0, 0, 0)
    assert table_rows(database) == flat_rows(event(n) for n in range(100))
    assert compared(stream) == 70  # what the stream still holds


def test_a_true_loss_stays_and_a_missing_stream_changes_nothing(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, spillway: RunSpillway
) -> None:
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    add_entries(redis_client, stream, 10, 20)
    redis_client.xtrim(stream, minid=f"{FIRST_MS + 15}-0", approximate=False)
    assert drain_counts(drain_with_loss(stream)) == (5, 5, 0, 0, 5)
    kept = flat_rows(event(n) for n in (*range(10), *range(15, 20)))
    assert table_rows(database) == kept
    before = database.execute("SELECT * FROM spillway.ledger ORDER BY ids").fetchall()
    assert "0 entries will be drained" in spillway("stream", "recover", stream)[1]
    assert database.execute("SELECT * FROM spillway.ledger ORDER BY ids").fetchall() == before
    redis_client.rename(stream, f"{stream}-away")
    code, _, err = spillway("stream", "recover", stream)
    assert code == 1
    assert "there is no such stream" in err
    assert database.execute("SELECT * FROM spillway.ledger ORDER BY ids").fetchall() == before
    assert table_rows(database) == kept
    settings.cache_clear()
