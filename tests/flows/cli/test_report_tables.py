"""`spillway report --table`: a table is shown with all streams that load it, also by a route, and with no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.stream_entries import event

pytestmark = pytest.mark.hypertables

MAPPING = """
    [streams.shop]
    table = "public.events"
    route = { key = "kind", tables = { refund = "users.refunds" } }
    [streams.shop.columns]
    time = "time"
    event_id = "event_id"
    event_type = "event_type"
    user_id = "user_id"
    """


@pytest.fixture
def routed(
    redis_client: redis.Redis, database: psycopg.Connection, alter: Callable[[str], None],
    configure: Callable[..., Settings], tmp_path: Path,
) -> None:  # fmt: skip
    """`shop` loads two tables by a route; `web` loads one of them. Both have an entry in quarantine."""
    alter("CREATE TABLE users.refunds (LIKE events); SELECT create_hypertable('users.refunds', by_range('time'))")
    (tmp_path / "spillway.toml").write_text(MAPPING)
    configure(mappings=tmp_path / "spillway.toml")
    send(redis_client, "shop", [event(n) | {b"kind": b"refund" if n < 5 else b"order"} for n in range(12)])
    send(redis_client, "shop", [event(12, time="a time of shop") | {b"kind": b"refund"}])
    send(redis_client, "web", [event(20), event(21), event(22, user_id="")])
    drain(["shop", "web"])


def frames(spillway: RunSpillway, folder: Path, table: str) -> dict[str, pd.DataFrame]:
    code, _, err = spillway("report", "--table", table, "--data", str(folder))
    assert code == 0, err
    return {path.stem: pd.read_parquet(path) for path in folder.iterdir()}


def rows_in(database: psycopg.Connection, table: str) -> int:
    row = database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    number: int = row[0]
    return number


def test_the_target_of_a_route_has_its_stream_its_rows_and_its_loads(
    routed: None, spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    found = frames(spillway, tmp_path / "frames", "users.refunds")
    (outcome,) = found["outcomes"].to_dict("records")
    rows = rows_in(database, "users.refunds")
    assert rows == 5
    assert (outcome["stream"], outcome["table"]) == ("shop", "users.refunds")
    assert (outcome["read"], outcome["inserted"], outcome["other_tables"], outcome["refused"]) == (13, rows, 7, 1)
    assert found["loads"]["inserted"].sum() == rows
    assert set(found["loads"]["table"]) == {"users.refunds"}
    assert set(found["quarantined"]["stream"]) == set(found["reasons"]["stream"]) == {"shop"}
    assert set(found["chunks"]["table"]) == {"users.refunds"}


def test_the_table_of_a_route_s_other_rows_counts_only_its_own(
    routed: None, spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    found = frames(spillway, tmp_path / "frames", "public.events")
    assert found["outcomes"].set_index("stream")["inserted"].to_dict() == {"shop": 7, "web": 2}
    assert found["loads"]["inserted"].sum() == rows_in(database, "events") == 9
    assert set(found["reasons"]["stream"]) == {"shop", "web"}


def test_a_table_that_no_stream_loads_has_no_reasons_of_others(
    routed: None, spillway: RunSpillway, alter: Callable[[str], None], tmp_path: Path
) -> None:
    alter("CREATE TABLE users.quiet (LIKE events); SELECT create_hypertable('users.quiet', by_range('time'))")
    path = tmp_path / "spillway.toml"
    path.write_text(f'{MAPPING}\n[tables."users.quiet"]\nkeep = "365d"\n')
    found = frames(spillway, tmp_path / "frames", "users.quiet")
    assert [len(found[name]) for name in ("outcomes", "loads", "reasons", "quarantined")] == [0, 0, 0, 0]
