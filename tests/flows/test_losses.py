"""Entries that were deleted before they were drained are counted, located in the ledger, and reported."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import redis
from prefect.artifacts import Artifact

from flows.drain import drain
from infra.producers.send import send
from tasks.base.addresses import parse_id
from tasks.ledger.drain_report import LOST_EVENT
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.prefect_events import awaited_events
from tests.support.results import drain_counts
from tests.support.runs import drain_with_loss
from tests.support.stream_entries import add_entries, event

pytestmark = pytest.mark.usefixtures("prefect_server")


def number(n: int) -> int:
    return parse_id(f"{1_700_000_000_000 + n}-0")


def losses(connection: psycopg.Connection) -> list[tuple[int, int, int]]:
    """Of each loss: the number of entries, and the first and the last id between which they were."""
    query = "SELECT lost, lower(lost_ids)::text, upper(lost_ids)::text FROM spillway.ledger WHERE lost > 0 ORDER BY ids"
    return [(lost, int(start), int(stop) - 1) for lost, start, stop in connection.execute(query)]


@pytest.mark.parametrize(
    ("how", "lost", "last_gone"), [("trimmed", 30, 130), ("deleted", 3, 160), ("both", 33, 160), ("all", 100, 200)]
)
def test_a_loss_is_in_the_ledger_with_its_span_of_ids_and_all_other_entries_are_drained(
    how: str, lost: int, last_gone: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 1, 101)
    drain(stream)
    add_entries(redis_client, stream, 101, 201)
    if how in ("trimmed", "both"):
        redis_client.xtrim(stream, minid=f"{1_700_000_000_131}-0", approximate=False)
    if how in ("deleted", "both"):
        redis_client.xdel(stream, *(f"{1_700_000_000_000 + n}-0" for n in (140, 150, 160)))
    if how == "all":
        redis_client.xtrim(stream, maxlen=0, approximate=False)
    result = drain_with_loss(stream)
    assert drain_counts(result) == (100 - lost, 100 - lost, 0, 0, lost)
    ((entries, first, last),) = losses(database)
    assert entries == lost
    assert number(100) < first <= number(101)
    assert number(last_gone) <= last <= number(last_gone) + (1 << 64)
    gone = {"trimmed": set(range(101, 131)), "deleted": {140, 150, 160}, "all": set(range(101, 201))}
    gone["both"] = gone["trimmed"] | gone["deleted"]
    assert table_rows(database) == flat_rows(event(n) for n in range(1, 201) if n not in gone[how])
    assert ledger_is_whole(database, stream)
    add_entries(redis_client, stream, 201, 211)
    assert drain_counts(drain(stream)) == (10, 10, 0, 0, 0)
    assert table_rows(database) == flat_rows(event(n) for n in range(1, 211) if n not in gone[how])
    assert losses(database) == [(entries, first, last)]


def test_entries_trimmed_while_the_drain_reads_are_lost_and_counted(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flows.loads.drain_loads as module

    add_entries(redis_client, stream, 0, 100)
    really_plan = module.plan

    def plan_and_trim(*args: Any, **options: Any) -> Any:
        planned = really_plan(*args, **options)
        if options.get("register", True):  # a plan that registers nothing comes before the drain
            redis_client.xtrim(stream, maxlen=60, approximate=False)
        return planned

    monkeypatch.setattr(module, "plan", plan_and_trim)
    assert drain_counts(drain_with_loss(stream)) == (60, 60, 0, 0, 40)
    ((entries, first, last),) = losses(database)
    assert (entries, first, last) == (40, 0, number(40) - 1)
    assert table_rows(database) == flat_rows(event(n) for n in range(40, 100))
    assert ledger_is_whole(database, stream)


def test_a_loss_is_an_error_in_the_report_and_an_event_in_prefect(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    add_entries(redis_client, stream, 10, 20)
    redis_client.xtrim(stream, maxlen=4, approximate=False)
    drain_with_loss(stream)
    artifact = Artifact.get("drain")
    assert artifact is not None
    assert f"error: 6 entries of {stream} with ids in 1700000000009-1..1700000000015-" in str(artifact.description)
    (found,) = awaited_events(f"spillway.stream.{stream}")
    assert found["event"] == LOST_EVENT
    assert found["payload"]["entries"] == 6
    assert found["payload"]["ids"].startswith("1700000000009-1..")
    assert table_rows(database) == flat_rows(event(n) for n in (*range(10), *range(16, 20)))


def test_every_report_warns_of_a_redis_that_evicts_or_does_not_persist(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    before: Any = redis_client.config_get("*")
    send(redis_client, stream, [event(1)])
    try:
        redis_client.config_set("maxmemory-policy", "allkeys-lru")
        redis_client.config_set("appendonly", "no")
        redis_client.config_set("save", "")
        for _ in range(2):
            warnings = " ".join(drain(stream)["warnings"])
            assert "Redis evicts (allkeys-lru)" in warnings
            assert "Redis keeps nothing on disk" in warnings
            artifact = Artifact.get("drain")
            assert artifact is not None
            assert "Redis keeps nothing on disk" in str(artifact.description)
        redis_client.config_set("save", "3600 1")
        assert "Redis keeps nothing on disk" not in " ".join(drain(stream)["warnings"])
    finally:
        for name in ("maxmemory-policy", "appendonly", "save"):
            redis_client.config_set(name, before[name])
    assert drain(stream)["warnings"] == []
    assert table_rows(database) == flat_rows([event(1)])


def test_the_command_reports_the_loss_and_exits_with_3(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    add_entries(redis_client, stream, 10, 20)
    redis_client.xtrim(stream, maxlen=4, approximate=False)
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 3
    assert f"error: 6 entries of {stream} with ids in 1700000000009-1..1700000000015-" in err
    assert table_rows(database) == flat_rows(event(n) for n in (*range(10), *range(16, 20)))
