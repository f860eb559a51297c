"""Streams in a Redis Cluster, and behind Sentinels: every stream is found and drained, also across a failover."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.plain.drain import drain
from flows.plain.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings, settings
from tasks.preflight.redis_rights import redis_rights
from tasks.streams import find
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.pause_points import Point
from tests.support.processes import Drain, Harness
from tests.support.redis_groups import (
    SERVICE,
    RunningCluster,
    WatchedRedis,
    await_servers,
)
from tests.support.redis_server import REDIS
from tests.support.redis_user import USER, denied, set_user, url_of_user
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")
EVENTS = 6_000
SMALL = {"SPILLWAY_RETRIES": "8", "SPILLWAY_BATCH_ROWS": "500", "SPILLWAY_CONNECT_TIMEOUT": "2"}


def fill(client: redis.Redis, stream: str, first: int, stop: int) -> None:
    """Add events that the replica has as well when this returns."""
    send(client, stream, [event(n) for n in range(first, stop)])
    if client.info("replication")["connected_slaves"]:
        assert client.wait(1, 120_000) == 1


def test_the_streams_of_all_nodes_are_drained_reconciled_and_shown(
    cluster: RunningCluster,
    spillway: RunSpillway,
    env: dict[str, str],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [cluster.name_on(number) for number in range(3)]
    for number, name in enumerate(names):
        fill(cluster.owner(name), name, 100 * number, 100 * number + 100)
    monkeypatch.setenv("SPILLWAY_REDIS_URL", cluster.url)
    assert spillway("drain", "--stream", "stream-*")[0] == 0
    assert table_rows(database) == flat_rows(event(n) for n in range(300))
    assert all(ledger_is_whole(database, name) for name in names)
    assert spillway("drain", "--stream", names[0])[0] == 0, "and again, with nothing to do"
    monkeypatch.setattr(find, "_MANY_SCANS", 0)  # the names are kept, and looked up on their nodes the next time
    for first in (300, 400):
        fill(cluster.owner(names[2]), names[2], first, first + 100)
        assert spillway("drain", "--stream", "stream-*")[0] == 0
    assert table_rows(database) == flat_rows(event(n) for n in range(500))
    assert database.execute("SELECT cardinality(names) FROM spillway.found_streams").fetchone() == (3,)
    code, out, err = spillway("reconcile", "--stream", "*", "--deep")
    assert (code, err) == (0, ""), out
    _, out, _ = spillway("status")
    assert [name for name in names if name in out] == names
    for name in names:  # the progress is published where the stream is
        (group,) = cluster.owner(name).xinfo_groups(name)
        assert group["lag"] == 0


def test_producers_and_a_backfill_of_a_range_reach_the_node_of_the_stream(
    cluster: RunningCluster, spillway: RunSpillway, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cluster.name_on(2)
    monkeypatch.setenv("SPILLWAY_REDIS_URL", cluster.url)
    code, _, err = spillway("generate", "--events", "200", "--stream", name)
    assert code == 0, err
    assert cluster.owner(name).xlen(name) == 200
    code, _, err = spillway("backfill", "--stream", name)
    assert code == 0, err
    assert database.execute("SELECT sum(read) FROM spillway.ledger").fetchone() == (200,)


@pytest.mark.parametrize("point", ["before sample", "before settle"])
def test_a_drain_goes_on_with_the_replica_that_replaces_a_killed_primary_of_a_cluster(
    cluster: RunningCluster,
    prefect_server: str,
    env: dict[str, str],
    database: psycopg.Connection,
    point: str,
) -> None:
    names = [cluster.name_on(0), cluster.name_on(1)]
    for number, name in enumerate(names):
        fill(cluster.owner(name), name, EVENTS * number, EVENTS * (number + 1))
    drain = Drain(names, env | SMALL | {"SPILLWAY_REDIS_URL": cluster.url}, Harness(Point(point)))
    assert drain.reached()
    cluster.lose(cluster.primaries[0])
    with cluster.replica.client() as replica:
        await_servers(lambda: replica.info("replication")["role"] == "master")
    drain.go_on()
    assert drain.finished().get("error") is None
    assert table_rows(database) == flat_rows(event(n) for n in range(2 * EVENTS))
    assert database.execute("SELECT sum(lost) FROM spillway.streams").fetchone() == (0,)


def test_a_drain_waits_until_the_cluster_has_a_new_primary(
    cluster: RunningCluster, prefect_server: str, env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    name = cluster.name_on(0)
    fill(cluster.owner(name), name, 0, EVENTS)
    log = tmp_path / "log"
    drain = Drain(name, env | SMALL | {"SPILLWAY_REDIS_URL": cluster.url}, Harness(Point("after read"), log=log))
    assert drain.reached()
    cluster.primaries[0].kill()
    drain.go_on()  # no node has the stream
    wait_until(lambda: "retry: " in log.read_text(), shown=log.read_text)
    cluster.lose(cluster.primaries[0])
    found = drain.finished()
    assert found.get("error") is None
    assert found["retries"], "the drain met the dead primary"
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))


def test_a_drain_follows_a_stream_that_moves_to_another_node(
    cluster: RunningCluster, prefect_server: str, env: dict[str, str], database: psycopg.Connection
) -> None:
    name = cluster.name_on(1)
    source, target = cluster.primaries[1].client(), cluster.primaries[2].client()
    fill(source, name, 0, EVENTS)
    drain = Drain(name, env | SMALL | {"SPILLWAY_REDIS_URL": cluster.url}, Harness(Point("after read", 2)))
    assert drain.reached()
    slot = source.execute_command("CLUSTER KEYSLOT", name)
    ids = {client: client.execute_command("CLUSTER MYID") for client in (source, target)}
    target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    source.migrate("127.0.0.1", cluster.primaries[2].port, name, 0, 10_000)
    for client in (target, source):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    drain.go_on()
    assert drain.finished().get("error") is None
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))
    assert ledger_is_whole(database, name)


@pytest.mark.parametrize("point", ["before sample", "before settle"])
def test_a_drain_goes_on_with_the_primary_that_the_sentinels_name_after_a_failover(
    watched: WatchedRedis,
    prefect_server: str,
    env: dict[str, str],
    database: psycopg.Connection,
    stream: str,
    point: str,
) -> None:
    fill(watched.primary.client(), stream, 0, EVENTS)
    drain = Drain(stream, env | SMALL | {"SPILLWAY_REDIS_URL": watched.url()}, Harness(Point(point)))
    assert drain.reached()
    watched.lose_primary()
    drain.go_on()  # at once: the Sentinels name the dead primary for a second or two
    assert drain.finished().get("error") is None
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS))
    assert ledger_is_whole(database, stream)
    with watched.replica.client() as new:
        assert new.info("replication")["role"] == "master"
        fill(new, stream, EVENTS, EVENTS + 100)
    after = Drain(stream, env | SMALL | {"SPILLWAY_REDIS_URL": watched.url()})
    assert after.finished()["read"] == 100
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS + 100))


def test_a_planned_failover_loses_nothing_and_the_demoted_primary_is_left(
    watched: WatchedRedis, prefect_server: str, env: dict[str, str], database: psycopg.Connection, stream: str
) -> None:
    fill(watched.primary.client(), stream, 0, EVENTS)
    drain = Drain(
        stream, env | SMALL | {"SPILLWAY_REDIS_URL": watched.url()}, Harness(Point("after read", 2), delays=[1.0] * 6)
    )
    assert drain.reached()
    with watched.sentinels[0].client() as sentinel, watched.replica.client() as replica:

        def replaced() -> bool:
            """Ask again: a failover that takes too long is given up."""
            if replica.info("replication")["role"] != "master":
                sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
            return bool(replica.info("replication")["role"] == "master")

        await_servers(replaced)
        fill(replica, stream, EVENTS, EVENTS + 10)
    drain.go_on()
    assert drain.finished().get("error") is None
    # A drain that still meets the old primary, before that one knows, leaves the newest entries to the next drain.
    with watched.primary.client() as old:
        await_servers(lambda: old.info("replication")["role"] == "slave")
    again = Drain(stream, env | SMALL | {"SPILLWAY_REDIS_URL": watched.url()})
    assert again.finished().get("error") is None
    assert table_rows(database) == flat_rows(event(n) for n in range(EVENTS + 10))


def test_a_user_of_a_cluster_who_reads_its_replicas(
    cluster: RunningCluster, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(redis_url=cluster.url, read_from="replica", trim_keep="7d")
    rules = redis_rights(["drain", "reconcile --deep"], ["stream-*"], settings(), cluster=True)
    names = [cluster.name_on(number) for number in range(3)]
    for number, name in enumerate(names):
        send(cluster.owner(name), name, [event(n) for n in range(number * 10, number * 10 + 10)])
    cluster.await_level()
    clients = [node.client() for node in cluster.nodes]
    for client in clients:
        set_user(client, rules)
    configure(redis_url=url_of_user(cluster.url))
    assert drain("stream-*")["inserted"] == 30
    assert reconcile(names, deep=True)["compared"] == 30
    assert [denied(client) for client in clients] == [{"config|get"}] * 3 + [set()]  # they write nothing to a disk
    assert table_rows(database) == flat_rows(event(n) for n in range(30))
    for client in clients:
        client.execute_command("ACL", "SETUSER", USER, "-cluster|slots")
    with pytest.raises(Terminal, match=r"'cluster\|slots'"):
        drain("stream-*")
