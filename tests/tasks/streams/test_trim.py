"""Trimming removes only entries that are drained, old enough, and not needed by another group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from flows.drain import drain
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings, settings
from tasks.streams.trim import GroupPosition, first_to_keep
from tests.support.ledger_edits import edit_ledger
from tests.support.oracle import flat_rows, table_rows
from tests.support.results import drain_counts
from tests.support.stream_entries import event

IDS = st.integers(0, 1 << 80)
GROUPS = st.lists(st.builds(GroupPosition, IDS, st.none() | IDS), max_size=4)


@given(IDS, GROUPS, st.integers(0, 1 << 20), st.timedeltas(timedelta(0), timedelta(days=365)))
def test_every_trimmed_id_is_drained_acknowledged_by_all_groups_and_old_enough(
    watermark: int, groups: list[GroupPosition], now_ms: int, keep: timedelta
) -> None:
    first = first_to_keep(watermark, groups, now_ms, keep)
    last_trimmed = first - 1
    assert last_trimmed < watermark
    for group in groups:
        assert last_trimmed <= group.delivered
        assert group.pending is None or last_trimmed < group.pending
    assert last_trimmed < 0 or (last_trimmed >> 64) < now_ms - keep.total_seconds() * 1000 + 1


@pytest.fixture
def exact(redis_client: redis.Redis) -> redis.Redis:
    """A Redis that keeps each entry in a node of its own, so that XTRIM with ~ is exact."""
    redis_client.config_set("stream-node-max-entries", 1)
    yield redis_client  # type: ignore[misc]
    redis_client.config_set("stream-node-max-entries", 100)


def remaining(client: redis.Redis, stream: str) -> list[bytes]:
    return [entry_id for entry_id, _ in client.xrange(stream)]  # type: ignore[union-attr]


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_trims_drained_entries_older_than_trim_keep(
    exact: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    now = int(exact.time()[0]) * 1000  # type: ignore[index]
    days = [0, 1, 5, 8, 20]
    for day in sorted(days, reverse=True):
        exact.xadd(stream, event(day), id=f"{now - day * 86_400_000}-0")  # type: ignore[arg-type]
    configure(trim_keep="7d")
    assert drain_counts(drain(stream)) == (5, 5, 0, 0, 0)
    assert remaining(exact, stream) == [b"%d-0" % (now - day * 86_400_000) for day in (5, 1, 0)]
    assert table_rows(database) == flat_rows(event(day) for day in days)
    exact.xadd(stream, event(30))  # type: ignore[arg-type]
    configure(trim_keep="0s")
    assert drain_counts(drain(stream)) == (1, 1, 0, 0, 0)
    assert drain_counts(drain(stream)) == (0, 0, 0, 0, 0)


@pytest.mark.usefixtures("prefect_server")
def test_entries_that_are_not_drained_or_that_another_group_needs_are_not_trimmed(
    exact: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    configure(trim_keep="0s")
    for n in range(10):
        exact.xadd(stream, event(n), id=f"{1_000 + n}-0")  # type: ignore[arg-type]
    exact.xgroup_create(stream, "other", id="0")
    drain(stream, max_events=8)
    assert len(remaining(exact, stream)) == 10  # the other group has read nothing
    exact.xreadgroup("other", "me", {stream: ">"}, count=6)
    drain(stream, max_events=1)
    assert len(remaining(exact, stream)) == 10  # now it has read entries, but acknowledged none
    exact.xack(stream, "other", *remaining(exact, stream)[:4])
    drain(stream)
    assert remaining(exact, stream)[0] == b"1004-0"
    exact.xack(stream, "other", *remaining(exact, stream)[:2])
    drain(stream)
    assert remaining(exact, stream)[0] == b"1006-0"
    exact.xgroup_destroy(stream, "other")
    exact.xadd(stream, event(11), id="2000-0")  # type: ignore[arg-type]
    drain(stream)
    assert remaining(exact, stream) == []
    assert table_rows(database) == flat_rows(event(n) for n in [*range(10), 11])
    assert drain_counts(drain(stream)) == (0, 0, 0, 0, 0)


@pytest.mark.usefixtures("prefect_server")
def test_entries_after_an_undrained_gap_are_not_trimmed(
    exact: redis.Redis, database: psycopg.Connection, stream: str, configure: Callable[..., Settings]
) -> None:
    """If an earlier range is not drained, ranges drained after it do not move the trim past the gap."""
    configure(trim_keep="0s")
    for n in range(4):
        exact.xadd(stream, event(n), id=f"{1_000 + n}-0")  # type: ignore[arg-type]
    drain(stream, max_events=1)
    edit_ledger(
        database,
        "INSERT INTO spillway.ledger (stream, ids, loaded_by) SELECT id, numrange(1002 * 18446744073709551616,"
        " 1003 * 18446744073709551616), 'somebody' FROM spillway.streams WHERE name = %s", [stream]
    )  # fmt: skip
    drain(stream, until="000001000-0")
    assert remaining(exact, stream)[0] == b"1001-0"


def test_nothing_is_trimmed_unless_trim_keep_is_set(
    prefect_server: str, exact: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(exact, stream, [event(n) for n in range(5)])
    drain(stream)
    assert len(remaining(exact, stream)) == 5


@pytest.mark.parametrize("value", ["7", "7 days", "d", "-1d", "1w"])
def test_an_invalid_trim_keep_is_refused(value: str, configure: Callable[..., Settings]) -> None:
    with pytest.raises(Terminal, match=r"SPILLWAY_TRIM_KEEP.*such as 7d, 36h, 90m or 30s"):
        configure(trim_keep=value)
    settings.cache_clear()


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("keep", "warned"), [("0s", True), ("23h", True), ("1d", False), ("7d", False), ("", False)])
def test_a_trim_keep_below_one_day_warns_once_per_run(
    keep: str, warned: bool, redis_client: redis.Redis, database: psycopg.Connection,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    configure(trim_keep=keep)
    for name in ("some:a", "some:b"):
        send(redis_client, name, [event(1)])
    warnings = [warning for warning in drain("some:*")["warnings"] if "SPILLWAY_TRIM_KEEP" in warning]
    assert len(warnings) == warned
    assert all("less than a day" in warning and "recovery point" in warning for warning in warnings)
