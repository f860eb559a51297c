"""Entries read from a replica (`SPILLWAY_READ_FROM`): exact, whatever the replica does, and the primary is spared."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psycopg
import pytest
import redis
from pydantic import ValidationError

from flows.drain import drain
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal, Unsuccessful
from infra.producers.send import send
from infra.settings import Settings
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness
from tests.support.redis_groups import RunningCluster, WatchedRedis, await_servers
from tests.support.redis_server import REDIS
from tests.support.stream_entries import event

pytestmark = [
    pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine"),
    pytest.mark.usefixtures("prefect_server"),
]
EVENTS = 6_000
SMALL = {"SPILLWAY_BATCH_ROWS": "500", "SPILLWAY_CONNECT_TIMEOUT": "10", "SPILLWAY_REDIS_TIMEOUT": "10"}


def fill(client: redis.Redis, stream: str, first: int, stop: int, replicated: bool = True) -> None:
    """Add events, which the replica has as well when this returns."""
    send(client, stream, [event(n) for n in range(first, stop)])
    if replicated:
        assert client.wait(1, 120_000) == 1


def replica_url(watched: WatchedRedis) -> str:
    return f"redis://127.0.0.1:{watched.replica.port}/0"


def primary_url(watched: WatchedRedis) -> str:
    return f"redis://127.0.0.1:{watched.primary.port}/0"


def bytes_sent(client: redis.Redis) -> int:
    sent: int = client.info("stats")["total_net_output_bytes"] - client.info("stats")["total_net_repl_output_bytes"]
    return sent


@pytest.mark.parametrize("by_name", [True, False], ids=["that the Sentinels name", "by its URL"])
def test_entries_come_from_the_replica_and_hardly_any_from_the_primary(
    watched: WatchedRedis, configure: Callable[..., Settings], database: psycopg.Connection, stream: str, by_name: bool
) -> None:
    primary, replica = watched.primary.client(), watched.replica.client()
    fill(primary, stream, 0, EVENTS)
    configure(redis_url=watched.url(), read_from="replica" if by_name else replica_url(watched))
    before = bytes_sent(primary), bytes_sent(replica)
    assert drain(stream)["inserted"] == EVENTS
    sent = bytes_sent(primary) - before[0], bytes_sent(replica) - before[1]
    assert sent[1] > 100 * EVENTS > 10 * sent[0], sent
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))
    assert ledger_is_whole(database, stream)
    (group,) = primary.xinfo_groups(stream)  # the progress is published on the primary
    assert group["lag"] == 0

    before = bytes_sent(primary), bytes_sent(replica)
    assert reconcile(stream, deep=True)["balanced"]
    sent = bytes_sent(primary) - before[0], bytes_sent(replica) - before[1]
    assert sent[1] > 100 * EVENTS > 10 * sent[0], sent


def test_the_replicas_of_a_cluster_are_read_where_there_are_any(
    cluster: RunningCluster, configure: Callable[..., Settings], database: psycopg.Connection
) -> None:
    names = [cluster.name_on(number) for number in range(3)]
    for number, name in enumerate(names):
        fill(cluster.owner(name), name, EVENTS * number, EVENTS * (number + 1), replicated=number == 0)
    configure(redis_url=cluster.url, read_from="replica")
    primary, replica = cluster.primaries[0].client(), cluster.replica.client()
    before = bytes_sent(primary), bytes_sent(replica)
    assert drain(names)["inserted"] == 3 * EVENTS
    sent = bytes_sent(primary) - before[0], bytes_sent(replica) - before[1]
    assert sent[1] > 100 * EVENTS > 10 * sent[0], sent
    assert table_rows(database) == flat_rows(event(n) for n in range(3 * EVENTS))
    assert all(ledger_is_whole(database, name) for name in names)


def test_what_a_replica_that_is_behind_lacks_is_read_from_the_primary(
    watched: WatchedRedis,
    configure: Callable[..., Settings],
    database: psycopg.Connection,
    stream: str,
) -> None:
    """Also if it is empty: it is being loaded, or the URL is that of another Redis."""
    primary, replica = watched.primary.client(), watched.replica.client()
    fill(primary, stream, 0, 3_000)
    replica.replicaof("NO", "ONE")
    fill(primary, stream, 3_000, EVENTS, replicated=False)
    configure(redis_url=primary_url(watched), read_from=replica_url(watched), trim_keep="0s")
    found = drain(stream)
    assert (found["inserted"], found["lost"]) == (EVENTS, 0)
    assert "is behind: it is not the stream that was planned" in "; ".join(found["warnings"])
    assert primary.xlen(stream) < 200, "a replica that is behind is no reason not to trim"
    replica.flushall()
    fill(primary, stream, EVENTS, EVENTS + 10, replicated=False)
    assert drain(stream, max_events=100)["inserted"] == 10
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS + 10))
    assert ledger_is_whole(database, stream)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["that ends", "that hangs"])
def test_the_primary_takes_over_from_a_replica(
    watched: WatchedRedis, env: dict[str, str], database: psycopg.Connection, stream: str, fault: signal.Signals
) -> None:
    fill(watched.primary.client(), stream, 0, EVENTS)
    urls = {"SPILLWAY_REDIS_URL": primary_url(watched), "SPILLWAY_READ_FROM": replica_url(watched)}
    running = Drain(stream, env | SMALL | urls, Harness(Point("after read", 3)))
    assert running.reached()
    watched.replica.signal(fault)
    running.go_on()
    found = running.finished()
    assert (found.get("error"), found["retries"]) == (None, []), "no step fails, so none is repeated"
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))
    assert ledger_is_whole(database, stream)


def test_a_failover_to_the_replica_that_is_read_loses_nothing(
    watched: WatchedRedis, env: dict[str, str], database: psycopg.Connection, stream: str
) -> None:
    fill(watched.primary.client(), stream, 0, EVENTS)
    urls = {"SPILLWAY_REDIS_URL": watched.url(), "SPILLWAY_READ_FROM": "replica"}
    running = Drain(stream, env | SMALL | urls, Harness(Point("after read", 3)))
    assert running.reached()
    watched.lose_primary()
    running.go_on()
    assert running.finished().get("error") is None
    with watched.replica.client() as new:
        await_servers(lambda: new.info("replication")["role"] == "master")
        fill(new, stream, EVENTS, EVENTS + 100, replicated=False)
    # No replica is left: the Sentinels name the primary, and that is read.
    assert Drain(stream, env | SMALL | urls).finished()["read"] == 100
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS + 100))
    assert ledger_is_whole(database, stream)


def test_what_a_false_replica_hides_is_not_recorded_as_lost_and_is_recovered(
    watched: WatchedRedis,
    configure: Callable[..., Settings],
    spillway: RunSpillway,
    database: psycopg.Connection,
    stream: str,
) -> None:
    """A former replica of which somebody has deleted entries: no proof of a page can show that."""
    primary, replica = watched.primary.client(), watched.replica.client()
    fill(primary, stream, 0, EVENTS)
    replica.replicaof("NO", "ONE")
    replica.xdel(stream, *[entry for entry, _ in replica.xrange(stream, count=100)])
    configure(redis_url=primary_url(watched), read_from=replica_url(watched))
    with pytest.raises(Unsuccessful, match=f"100 entries .* may still be in it; .* spillway stream recover {stream}"):
        drain(stream)
    assert database.execute("SELECT lost FROM spillway.streams").fetchone() == (0,)
    configure(redis_url=primary_url(watched), read_from="")
    code, out, _ = spillway("stream", "recover", stream)
    assert (code, f"{EVENTS:,} entries will be drained" in out) == (0, True), out
    found = drain(stream)
    assert (found["inserted"], found["duplicates"], found["lost"]) == (100, EVENTS - 100, 0)
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))
    assert ledger_is_whole(database, stream)


@pytest.mark.parametrize(
    "read_from",
    ["primary", "http://host", "redis://u:secret@host@other/x", "redis://:secret@host/x"],
)
def test_a_value_that_names_no_server_is_refused_without_its_password(read_from: str) -> None:
    with pytest.raises(ValidationError, match="expected 'replica', or a URL like redis://") as refused:
        Settings(read_from=read_from, _env_file=None)
    assert "secret" not in str(refused.value)


def test_a_single_server_names_no_replica(
    configure: Callable[..., Settings], redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(1)])
    configure(read_from="replica")
    with pytest.raises(Terminal, match=r"expected Sentinels or a Cluster, .* write the URL of its replica"):
        drain(stream)
    assert table_rows(database) == {}
