"""A real Prometheus scrapes a real exporter: the dashboard's queries answer, and real faults raise their alerts."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from infra.errors.exceptions import SpillwayError
from infra.producers.send import send
from infra.settings import PROJECT_ROOT, Settings
from tests.support.exporter import listening
from tests.support.prometheus import QUERIES, filled, running_prometheus
from tests.support.redis_server import redis_port
from tests.support.stream_entries import event


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_every_query_of_the_dashboard_answers_with_data_and_nothing_is_alerted(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], sample: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """With real events."""
    configure(compress_after="")  # the events are years old, and nothing compresses them here
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref-a", ({b"data": line} for line in lines[:1500]))
    drain("crossref-a")
    with listening(os.environ) as (_, port), running_prometheus(tmp_path, port) as prometheus:
        prometheus.wait_for(lambda: bool(prometheus.query("spillway_build_info")))
        send(redis_client, "crossref-a", ({b"data": line} for line in lines[1500:]))
        drain("crossref-a")
        row = database.execute("SELECT count(*) FROM events").fetchone()
        assert row is not None
        # An earlier scrape may have met the second drain between two of its batches.
        inserted = f'sum(spillway_events_total{{result="inserted"}}) == {row[0]}'
        prometheus.wait_for(lambda: bool(prometheus.query(inserted)))
        for query in QUERIES:
            values = [float(one["value"][1]) for one in prometheus.query(filled(query))]
            assert values, query
            assert all(value == value for value in values), f"{query} is not a number"
        prometheus.await_calm(10)
        prometheus.wait_for(lambda: [one["value"][1] for one in prometheus.query("up")] == ["1"])


def test_the_dashboard_uses_every_metric() -> None:
    text = (PROJECT_ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    names = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `spillway_")]
    unused = [name for name in names if not any(name in query for query in QUERIES)]
    assert unused == ["spillway_drain_interval_seconds"]


def test_real_faults_raise_their_alerts_and_a_healthy_spell_raises_none(
    database: psycopg.Connection, configure: Callable[..., Settings], stream: str, tmp_path: Path
) -> None:
    with ExitStack() as only_here:
        url = f"redis://127.0.0.1:{only_here.enter_context(redis_port(tmp_path))}/0"
        configure(redis_url=url, drain_every="5s", compress_after="", retries=0, connect_timeout=30)
        client = only_here.enter_context(redis.Redis.from_url(url))
        number = iter(range(1, 1_000_000))

        def produce(count: int, **changes: str) -> list[bytes]:
            return [client.xadd(stream, event(next(number), **changes)) for _ in range(count)]  # type: ignore[arg-type, misc]

        def work() -> None:
            with suppress(SpillwayError):
                drain(stream)

        produce(40)
        work()
        with (
            listening(os.environ) as (_, port),
            running_prometheus(tmp_path, port, {"+ 60": "+ 10"}) as prometheus,
        ):
            fires = prometheus.firing
            prometheus.wait_for(lambda: bool(prometheus.query("spillway_build_info")), meanwhile=work)
            # More than three intervals of the drain and ten seconds.
            prometheus.await_calm(35, lambda: (produce(5), work()))
            produce(40, time="soon")
            produce(60)
            work()
            growing = {"SpillwayQuarantineGrowing", "SpillwayQuarantineGrowingSlowly"}
            prometheus.wait_for(lambda: fires() >= growing, meanwhile=work)
            assert "SpillwayEntriesLost" not in fires()
            client.xdel(stream, *produce(3)[:2])
            produce(1)
            work()
            prometheus.wait_for(lambda: "SpillwayEntriesLost" in fires(), meanwhile=work)
            others = {"SpillwayRedisDown", "SpillwayDrainSilent", "SpillwayLedgerUnbalanced"}
            prometheus.wait_for(lambda: not fires() & others, meanwhile=work)
            only_here.close()
            down, database_down = {"SpillwayRedisDown", "SpillwayDrainSilent"}, {"SpillwayDatabaseDown"}
            prometheus.wait_for(lambda: fires() & (down | database_down) == down, meanwhile=work)
