"""Two tables of different shape with a stream each: what is lost or dropped of one is never counted for the other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.maintain import maintain
from infra.errors.exceptions import Unsuccessful
from tests.support.runs import drain_with_loss

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("hypertables", "prefect_server")]

DAYS, PER_DAY = 60, 10
ROWS = DAYS * PER_DAY
MAPPINGS = """
    [streams."rain"]
    table = "users.rain"
    [streams."visits"]
    table = "users.visits"
    [tables."users.rain"]
    keep = "30d"
    retention = "flow"
    [tables."users.visits"]
    keep = ""
    """
TABLES = """
    CREATE TABLE users.rain (station INT, at TIMESTAMPTZ, mm NUMERIC(5,1), PRIMARY KEY (station, at));
    SELECT create_hypertable('users.rain', 'at', chunk_time_interval => INTERVAL '1 day');
    CREATE TABLE users.visits (at TIMESTAMPTZ NOT NULL, url TEXT, who INET, tags TEXT[]);
    SELECT create_hypertable('users.visits', 'at', chunk_time_interval => INTERVAL '1 day')"""


def fields(n: int) -> dict[str, Any]:
    """Entry number `n`, which both tables can take: 10 on each of the last 60 days."""
    at = datetime.now(UTC) - timedelta(days=n // PER_DAY, minutes=n % PER_DAY)
    return {"station": n, "at": at.isoformat(), "mm": n / 10, "url": f"/{n}", "who": "10.0.0.1", "tags": "{a,b}"}


def add(client: redis.Redis, stream: str, first: int, last: int) -> None:
    for n in range(first, last):
        client.xadd(stream, fields(n), id=f"{n + 1}-0")


def tables_reported(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["table"]: one for one in result["tables"]}


@pytest.fixture
def filled(users: psycopg.Connection, redis_client: redis.Redis, mapped: Callable[[str], None]) -> psycopg.Connection:
    """Both tables, filled from their streams."""
    users.execute(TABLES)
    mapped(MAPPINGS)
    for stream in ("rain", "visits"):
        add(redis_client, stream, 0, ROWS)
    drain(["rain", "visits"])
    return users


def counts(connection: psycopg.Connection) -> tuple[int, int]:
    row = connection.execute("SELECT (SELECT count(*) FROM users.rain), (SELECT count(*) FROM users.visits)").fetchone()
    assert row is not None
    return row


def test_lost_entries_are_counted_for_their_own_stream(filled: psycopg.Connection, redis_client: redis.Redis) -> None:
    for stream in ("rain", "visits"):
        add(redis_client, stream, ROWS, ROWS + 20)
    redis_client.xdel("visits", *(f"{n + 1}-0" for n in range(ROWS + 3, ROWS + 10)))
    result = drain_with_loss(["rain", "visits"])
    assert {one["stream"]: one["lost"] for one in result["streams"]} == {"rain": 0, "visits": 7}
    lost = filled.execute('SELECT name, "table", lost::int FROM spillway.streams ORDER BY name').fetchall()
    assert lost == [("rain", '"users"."rain"', 0), ("visits", '"users"."visits"', 7)]
    assert counts(filled) == (ROWS + 20, ROWS + 13)


def test_dropped_chunks_are_counted_for_their_own_table(filled: psycopg.Connection) -> None:
    found = tables_reported(maintain())
    dropped = sum(one["rows"] for one in found["users.rain"]["dropped"])
    assert dropped == ROWS - counts(filled)[0] > 200
    assert found["users.visits"]["dropped"] == []
    assert counts(filled)[1] == ROWS
    drops = filled.execute('SELECT "table", sum(rows)::int FROM spillway.drops GROUP BY 1').fetchall()
    assert drops == [('"users"."rain"', dropped)]


@pytest.mark.parametrize(("damaged", "whole"), [("users.visits", "users.rain"), ("users.rain", "users.visits")])
def test_rows_missing_from_one_table_are_reported_for_it_alone(
    damaged: str, whole: str, filled: psycopg.Connection
) -> None:
    maintain()
    filled.execute(f"DELETE FROM {damaged} WHERE at > now() - INTERVAL '3 days' AND at < now() - INTERVAL '2 days'")
    with pytest.raises(Unsuccessful, match=damaged) as failed:
        maintain()
    found = tables_reported(failed.value.result)
    assert found[damaged]["violations"]
    assert found[whole]["violations"] == []
    assert found["public.events"]["violations"] == []
