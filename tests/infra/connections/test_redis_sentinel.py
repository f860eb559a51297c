"""Clients of the primary that Sentinels name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from infra.connections.redis_client import open_redis, primary_address
from infra.connections.redis_connection import UnsupportedServer
from infra.errors.classify import is_transient
from infra.errors.next_steps import next_step
from tests.support.redis_groups import SERVICE, WatchedRedis, await_servers, watched_redis
from tests.support.redis_server import PATIENCE, REDIS

pytestmark = pytest.mark.skipif(REDIS is None, reason="there is no redis-server on this machine")
SECRET = "s3cret-of-sentinels"
NO_FAILOVER = f"sentinel down-after-milliseconds {SERVICE} 3600000"  # of a primary that a busy machine has stopped


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedRedis]:
    """Sentinels with a password of their own, and a primary without one."""
    with watched_redis(tmp_path_factory.mktemp("watched"), f"requirepass {SECRET}", NO_FAILOVER) as found:
        yield found


def test_the_primary_is_found_although_one_sentinel_is_down(watched: WatchedRedis) -> None:
    url = watched.url(parameters=f"?sentinel_password={SECRET}").replace("127.0.0.1:", "127.0.0.1:9,127.0.0.1:", 1)
    with open_redis(url, PATIENCE, PATIENCE) as client:
        assert client.xadd("s", {"a": "b"})
        assert client.info("replication")["role"] == "master"
    assert primary_address(url, PATIENCE) == ("127.0.0.1", watched.primary.port)
    with watched.primary.client() as primary:
        assert primary.xlen("s") == 1


@pytest.mark.parametrize("parameters", ["", "?sentinel_password=wrong"])
def test_sentinels_that_refuse_the_password_are_no_transient_fault(watched: WatchedRedis, parameters: str) -> None:
    with (
        open_redis(watched.url(parameters=parameters), PATIENCE, PATIENCE) as client,
        pytest.raises(redis.RedisError) as refused,
    ):
        client.ping()
    assert not is_transient(refused.value)
    assert SECRET not in str(refused.value)


def test_a_service_that_no_sentinel_watches_is_refused_with_those_that_exist(watched: WatchedRedis) -> None:
    url = watched.url("no-such-service", parameters=f"?sentinel_password={SECRET}")
    with open_redis(url, PATIENCE, PATIENCE) as client, pytest.raises(UnsupportedServer) as refused:
        client.ping()
    assert "watch no service 'no-such-service'" in str(refused.value)
    assert repr(SERVICE) in str(refused.value)


def test_sentinels_that_do_not_answer_are_a_transient_fault() -> None:
    client = open_redis("redis+sentinel://127.0.0.1:9,127.0.0.1:10/x", PATIENCE, PATIENCE)
    with client, pytest.raises(redis.ConnectionError) as refused:
        client.ping()
    assert is_transient(refused.value)
    assert "SENTINEL MASTERS" in next_step(refused.value, "drain")


def test_a_replica_that_the_sentinels_still_name_as_primary_is_refused(tmp_path: Path) -> None:
    with (
        watched_redis(tmp_path / "watched", NO_FAILOVER) as watched,
        open_redis(watched.url(), PATIENCE, PATIENCE) as client,
    ):
        assert client.ping()
        client.connection_pool.disconnect()
        with watched.primary.client() as primary:
            primary.replicaof("127.0.0.1", watched.replica.port)  # behind the Sentinels' back
            with pytest.raises(redis.ConnectionError, match="it is a replica at the moment") as refused:
                client.ping()
            assert is_transient(refused.value)
            primary.replicaof("NO", "ONE")
        await_servers(client.ping)
