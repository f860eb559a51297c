"""A settlement records a loss only if the state of the stream at that moment explains it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.errors.exceptions import Terminal, Transient
from infra.settings import Settings
from tasks.base.addresses import IdRange, parse_id
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle
from tasks.streams.pages import StreamAway
from tests.support.old_releases import record_as_settled
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.pause_points import steps
from tests.support.results import drain_counts
from tests.support.stream_entries import FIRST_MS, add_entries, event


def state(database: psycopg.Connection) -> list[Any]:
    return [*database.execute("SELECT * FROM spillway.streams"), *database.execute("SELECT * FROM spillway.ledger")]


@pytest.mark.parametrize("trimmed_before", [0, 5])
def test_a_loss_that_the_stream_does_not_explain_is_an_error_and_nothing_is_recorded_published_or_trimmed(
    trimmed_before: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 20)
    redis_client.xtrim(stream, minid=f"{FIRST_MS + trimmed_before}-0", approximate=False)
    plan = make_plan(redis_client, database, stream)
    record_as_settled(database, plan, 5)
    before = state(database), redis_client.xinfo_stream(stream)
    with pytest.raises(Terminal, match=r"not read, but only 0 were removed from it.*spillway stream recover"):
        settle(redis_client, database, plan, timedelta(0))
    assert (state(database), redis_client.xinfo_stream(stream)) == before


def test_entries_removed_elsewhere_do_not_explain_a_loss(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 20)
    plan = make_plan(redis_client, database, stream)
    record_as_settled(database, plan, 20)
    settle(redis_client, database, plan)
    redis_client.xtrim(stream, minid=f"{FIRST_MS + 10}-0", approximate=False)  # drained ones
    add_entries(redis_client, stream, 20, 30)
    plan = make_plan(redis_client, database, stream)
    record_as_settled(database, plan, 3)
    with pytest.raises(
        Terminal, match=rf"7 entries .* not read, but it has {FIRST_MS + 10}-0, and none was deleted after 0-0"
    ):
        settle(redis_client, database, plan)


@pytest.mark.parametrize("how", ["trimmed", "deleted"])
def test_a_loss_that_the_stream_explains_is_recorded(
    how: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 20)
    plan = make_plan(redis_client, database, stream)
    if how == "trimmed":
        redis_client.xtrim(stream, minid=f"{FIRST_MS + 4}-0", approximate=False)
    else:
        redis_client.xdel(stream, *(f"{FIRST_MS + n}-0" for n in (3, 5, 8, 11)))
    record_as_settled(database, plan, 16)
    settled = settle(redis_client, database, plan)
    assert settled.lost == 4
    stop = parse_id(f"{FIRST_MS + 4}-0") if how == "trimmed" else parse_id(f"{FIRST_MS + 11}-0") + 1
    assert settled.lost_ids == IdRange(0, stop)
    recorded = database.execute("SELECT lost, lower(lost_ids)::text, upper(lost_ids)::text FROM spillway.ledger")
    assert recorded.fetchall() == [(4, "0", str(stop))]
    assert database.execute("SELECT lost FROM spillway.streams").fetchall() == [(4,)]


@pytest.mark.parametrize("away", ["deleted", "made again", "older"])
def test_settling_a_stream_that_is_away_or_replaced_records_nothing_and_can_be_repeated(
    away: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 10)
    older: Any = redis_client.dump(stream)
    add_entries(redis_client, stream, 10, 20)
    whole: Any = redis_client.dump(stream)
    plan = make_plan(redis_client, database, stream)
    record_as_settled(database, plan, 20)
    before = state(database)
    redis_client.delete(stream)
    if away == "made again":
        add_entries(redis_client, stream, 30, 60)
    elif away == "older":
        redis_client.restore(stream, 0, older)
    there = redis_client.dump(stream)
    with pytest.raises(StreamAway, match=rf"settle: stream {stream}: .*nothing was recorded"):
        settle(redis_client, database, plan, timedelta(0))
    assert state(database) == before
    assert redis_client.dump(stream) == there
    redis_client.restore(stream, 0, whole, replace=True)
    assert settle(redis_client, database, plan).lost == 0


def test_the_group_never_reports_more_entries_read_than_added(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 20)
    plan = make_plan(redis_client, database, stream, until=parse_id(f"{FIRST_MS + 9}-0"))
    record_as_settled(database, plan, 20)
    database.execute("UPDATE spillway.streams SET lost = 998")
    settle(redis_client, database, plan)
    (group,) = cast("list[dict[str, Any]]", redis_client.xinfo_groups(stream))
    assert group["entries-read"] == 20
    assert group["lag"] is None or group["lag"] >= 0


@pytest.mark.usefixtures("prefect_server")
def test_a_stream_that_keeps_going_away_is_drained_completely_without_a_loss(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    number = 20_000
    add_entries(redis_client, stream, 0, number)
    configure(trim_keep="0s", batch_rows=2_000)
    for one in steps():
        if one.most_retries:
            monkeypatch.setattr(one, "most_retries", 6)
            monkeypatch.setattr(one, "delays", [0.05] * 6)
    stop = threading.Event()

    def come_and_go() -> None:
        with redis.Redis(connection_pool=redis_client.connection_pool) as client:
            while not stop.is_set():
                time.sleep(0.15)
                client.rename(stream, f"{stream}-away")
                time.sleep(0.05)
                client.rename(f"{stream}-away", stream)

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        time.sleep(0.02)
        for _ in range(20):
            try:
                drain(stream)
            except (Terminal, Transient):  # away too often for the retries, or at the start: the next run continues
                continue
            break
    finally:
        stop.set()
        other.join()
    assert drain_counts(drain(stream))[4] == 0
    assert table_rows(database) == flat_rows(event(n) for n in range(number))
    assert ledger_is_whole(database, stream)
    assert database.execute("SELECT lost FROM spillway.streams").fetchone() == (0,)
