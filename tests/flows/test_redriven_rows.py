"""After a redrive, `maintain` and `reconcile` say how many rows it added. The table is counted independently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort

from flows.maintain import maintain
from flows.plain.drain import drain
from flows.plain.redrive import redrive
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.stream_entries import event

pytestmark = pytest.mark.hypertables


def rows_in(database: psycopg.Connection, table: str) -> int:
    row = database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def artifact(key: str) -> str:
    """The description of the newest artifact with this key."""
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    return str(found.description)


def test_maintain_and_reconcile_account_for_rows_that_redrives_added(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """Three redrives: two add rows, and one finds that the row is there already."""
    bad = [event(n, user_id="") for n in range(10, 15)]
    send(redis_client, stream, [*(event(n) for n in range(7)), *bad, event(3, user_id="")])
    drain(stream)
    before = rows_in(database, "events")
    assert "redrives" not in spillway("maintain", "--dry-run")[1]
    found = [entry for (entry,) in database.execute("SELECT entry_id FROM spillway.quarantine")]
    ids = sorted(found, key=lambda entry: tuple(map(int, entry.split("-"))))
    for chosen in (ids[:2], ids[2:5]):
        redrive(stream, chosen, set={"user_id": "nobody"})
    same = event(3)[b"user_id"].decode()
    assert redrive(stream, ids[5:], set={"user_id": same})["duplicates"] == 1
    added = rows_in(database, "events") - before
    assert added == 5

    code, out, _ = spillway("maintain", "--dry-run")
    assert (code, f"7 inserted in all, {added} added by redrives, 12 rows there, 0 dropped, 0 missing" in out) == (
        0,
        True,
    )
    code, out, _ = spillway("reconcile", "--stream", stream)
    assert code == 0
    assert f"{added} rows of {stream} were added by redrives, in addition to the inserted ones" in out
    assert maintain(dry_run=True)["row_audit"]["redriven"] == added
    assert f"{added} added by redrives" in artifact("maintain")
    (totals,) = reconcile(stream)["streams"]
    assert (totals["inserted"], totals["redriven"]) == (before, added)
    assert f"{added} rows of" in artifact("reconcile")


def test_a_dry_run_and_entries_that_are_still_bad_add_nothing(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(1), event(2, user_id="")])
    drain(stream)
    redrive(stream, dry_run=True, set={"user_id": "anna"})
    with pytest.raises(Exception, match="expected entries to succeed, found none of 1;"):
        redrive(stream)
    assert rows_in(database, "spillway.redrives") == 0


def test_a_row_that_was_deleted_for_a_redriven_conflict_is_not_missing(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """What docs/operations.md advises if the entry in the quarantine is the right one."""
    send(redis_client, stream, [event(1), event(2), event(2, user_id="other")])
    drain(stream)
    key = event(2)[b"event_id"].decode()
    database.execute("DELETE FROM events WHERE event_id = %s", [key])
    assert redrive(stream)["inserted"] == 1
    audit = maintain(dry_run=True)["row_audit"]
    assert (audit["inserted"], audit["redriven"], audit["rows"], audit["missing"]) == (2, 1, 2, 0)


def test_the_rows_of_a_route_are_counted_by_table(
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    alter: Callable[[str], None],
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    alter("CREATE TABLE users.orders (LIKE events); SELECT create_hypertable('users.orders', by_range('time'))")
    mapping = tmp_path / "spillway.toml"
    mapping.write_text(f"""
        [streams.{stream}]
        table = "public.events"
        route = {{ key = "kind", tables = {{ order = "users.orders" }} }}
        [streams.{stream}.columns]
        time = "time"
        event_id = "event_id"
        event_type = "event_type"
        user_id = "user_id"
        """)
    configure(mappings=mapping)
    entries = [event(n) | {b"kind": b"order" if n % 2 else b"other"} for n in range(10)]
    spoiled = [entry | {b"time": b"half past nine"} for entry in entries[5:]]
    send(redis_client, stream, [*entries[:5], *spoiled])
    drain(stream)
    before = {table: rows_in(database, table) for table in ("public.events", "users.orders")}
    redrive(stream, set={"time": event(1)[b"time"].decode()})
    added = {table: rows_in(database, table) - before[table] for table in before}
    assert added == {"public.events": 2, "users.orders": 3}
    reports = {one["table"]: one["row_audit"]["redriven"] for one in maintain(dry_run=True)["tables"]}
    assert {table: reports[table] for table in added} == added
