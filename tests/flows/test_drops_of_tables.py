"""Two streams in two tables: what was dropped from or lost in one is never attributed to the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.support.stream_entries import event

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

DAYS = 60
FIRST = (datetime.now(UTC) - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)


def reading(n: int) -> dict[bytes, bytes]:
    """One reading a day."""
    day = (FIRST + timedelta(days=n)).date().isoformat().encode()
    return {b"taken": day, b"station": f"s{n % 3}".encode(), b"temp": str(n / 8).encode()}


def rows(connection: psycopg.Connection, table: str) -> int:
    ((count,),) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(count)


def is_balanced(prefix: str, repair: bool = False) -> bool:
    """Whether every entry of the streams or files is in its table, or was dropped from it."""
    return bool(reconcile(f"{prefix}*", deep=True, repair=repair, fail=False)["balanced"])


@pytest.fixture(params=["timestamptz", "timestamp", "date"])
def both(
    request: pytest.FixtureRequest,
    alter: Callable[[str], None],
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    configure: Callable[..., Settings],
    tmp_path: Path,
) -> psycopg.Connection:
    """60 days of one stream in `users.readings` and of another in `events`, both drained. Readings are kept 30 days."""
    alter(f"CREATE TABLE users.readings (taken {request.param} NOT NULL, station text NOT NULL, temp numeric(6,3))")
    alter("SELECT create_hypertable('users.readings', by_range('taken', interval '7 days'))")
    alter("CREATE UNIQUE INDEX ON users.readings (station, taken)")
    path = tmp_path / "spillway.toml"
    path.write_text(
        f'[streams."{stream}-readings"]\ntable = "users.readings"\n[tables."users.readings"]\nkeep = "30d"\n'
    )
    # Without the server's own jobs: on PostgreSQL 15 they report a failure after each run, and maintain passes it on.
    configure(mappings=path, compress_after="")
    send(redis_client, f"{stream}-readings", map(reading, range(DAYS)))
    send(redis_client, stream, (event(n, time=(FIRST + timedelta(days=n)).isoformat()) for n in range(DAYS)))
    assert [one["inserted"] for one in (drain(stream), drain(f"{stream}-readings"))] == [DAYS, DAYS]
    return database


def test_dropped_rows_of_a_table_are_not_missing_and_deleted_ones_are(both: psycopg.Connection, stream: str) -> None:
    found = maintain()
    left = rows(both, "users.readings")
    assert (found["ok"], rows(both, "events"), 28 <= left < 40) == (
        True,
        DAYS,
        True,
    )  # midnight may have passed since `FIRST`
    assert is_balanced(stream)
    both.execute("DELETE FROM users.readings WHERE taken = (SELECT max(taken) FROM users.readings)")
    both.execute("DELETE FROM events WHERE time < %s", [FIRST + timedelta(days=3)])
    missing = {one["table"]: one["row_audit"]["missing"] for one in maintain(fail=False)["tables"]}
    assert missing == {"public.events": 3, "users.readings": 1}
    assert not is_balanced(stream)
    assert is_balanced(stream, repair=True)
    assert (rows(both, "events"), rows(both, "users.readings")) == (DAYS, left)
    assert maintain()["ok"]


def test_readings_that_are_backfilled_after_their_drop_are_checked(
    both: psycopg.Connection, tmp_path: Path, stream: str
) -> None:
    maintain()
    left = rows(both, "users.readings")
    file = tmp_path / f"{stream}-readings"
    lines = [f"{(FIRST + timedelta(days=n)).date()},new,{n}" for n in range(3)]
    file.with_suffix(".csv").write_text("\n".join(["taken,station,temp", *lines]))
    loaded = backfill(source=str(file.with_suffix(".csv")), mapping=f"{stream}-readings", expired="load")
    assert (loaded["inserted"], rows(both, "users.readings")) == (3, left + 3)
    assert is_balanced(stream)
    assert is_balanced("file:")
    both.execute("DELETE FROM users.readings WHERE temp = 1 AND station = 'new'")
    assert is_balanced(stream)
    assert not is_balanced("file:")
    both.execute("INSERT INTO users.readings VALUES (%s, 'new', 1)", [(FIRST + timedelta(days=1)).date()])
    found = maintain()
    assert (found["ok"], rows(both, "users.readings"), rows(both, "events")) == (True, left, DAYS)
