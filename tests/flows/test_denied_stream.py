"""A stream outside the key pattern of Redis's user: it is named, and nothing else is lost by it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import psycopg
import pytest
import redis

from flows.cli.status_look import look
from flows.metrics_server import metrics_text
from flows.plain.drain import drain
from flows.plain.reconcile import reconcile
from infra.errors.exceptions import SpillwayError
from infra.producers.send import send
from infra.settings import Settings, settings
from tasks.metrics.collector import MetricsCollector
from tasks.preflight.redis_rights import redis_rights
from tests.support.command_line import RunSpillway
from tests.support.metrics import labels, samples
from tests.support.redis_user import USER, set_user, url_of_user
from tests.support.servers import Servers
from tests.support.stream_entries import event

GRANTS = "spillway grants USER --redis --for %s --stream 'events*' --stream denied-shop"


@pytest.fixture
def as_user(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], servers: Servers
) -> Iterator[Callable[[str], Settings]]:
    """Two streams of the pattern and one outside, all drained once, with one more entry in each.

    Returns a function that gives the user the rights for a command on the pattern, and sets the user's URL."""
    configure(scheduled_streams="events*")
    names = ("denied-shop", "events-a", "events-b")
    for number, name in enumerate(names):
        send(redis_client, name, [event(number)])
    drain(list(names))
    for number, name in enumerate(names):
        send(redis_client, name, [event(10 + number)])

    def made(command: str) -> Settings:
        set_user(redis_client, redis_rights([command], ["events*"], settings(), cluster=False))
        return configure(redis_url=url_of_user(servers.settings.redis))

    yield made
    redis_client.execute_command("ACL", "DELUSER", USER)
    redis_client.delete(*names)


def test_metrics_keep_the_lag_of_all_other_streams_and_warn_once(
    as_user: Callable[[str], Settings], caplog: pytest.LogCaptureFixture
) -> None:
    config = as_user("metrics")
    text, faults = metrics_text(config)
    found = samples(text)
    assert set(found["spillway_up"].values()) == {1}
    assert found["spillway_stream_lag_entries"] == {labels(stream="events-a"): 1, labels(stream="events-b"): 1}
    assert list(faults) == ["streams"]
    assert "'denied-shop'" in faults["streams"]
    assert faults["streams"].endswith(GRANTS % "metrics")
    caplog.clear()
    caplog.set_level(logging.WARNING, "spillway.metrics")
    collector = MetricsCollector(config)
    try:
        for _ in range(3):
            collector.collect()
    finally:
        collector.close()
    assert len([one for one in caplog.records if "denied-shop" in one.getMessage()]) == 1


def test_a_user_without_any_right_is_a_fault_of_the_server(
    as_user: Callable[[str], Settings], redis_client: redis.Redis
) -> None:
    config = as_user("metrics")
    redis_client.execute_command("ACL", "SETUSER", USER, "-xinfo")
    text, faults = metrics_text(config)
    assert samples(text)["spillway_up"][labels(server="redis")] == 0
    assert list(faults) == ["redis"]


def test_status_shows_all_other_streams_and_what_to_type(
    as_user: Callable[[str], Settings], command_line: RunSpillway
) -> None:
    as_user("status")
    found = look()
    assert {one.name: one.lag for one in found.streams} == {"denied-shop": None, "events-a": 1, "events-b": 1}
    assert [one.name for one in found.streams if one.denied] == ["denied-shop"]
    assert not any("Redis" in one for one in found.problems)
    assert found.attention[0].endswith(GRANTS % "status")
    _, out, _ = command_line("status")
    (line,) = [line for line in out.splitlines() if line.startswith("denied-shop")]
    assert "no right" in line


def test_reconcile_of_every_stream_names_the_stream_and_the_command(as_user: Callable[[str], Settings]) -> None:
    as_user("reconcile")
    with pytest.raises(SpillwayError) as raised:
        reconcile("*")
    assert "denied-shop" in str(raised.value)
    assert "spillway grants USER --redis" in str(raised.value)
