"""The servers of a campaign, each behind a proxy, and what a drain needs to find them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import psycopg
import redis
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import State
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from infra.servers.engine import Engine, Service, StopMode
from infra.settings import Settings, host_of
from tests.support.dask_cluster import DaskCluster, dask_cluster
from tests.support.proxy import Proxy
from tests.support.tables import empty_tables

# Short timeouts, so that a fault takes seconds.
_LIMITS = {
    "SPILLWAY_CONNECT_TIMEOUT": "2",
    "SPILLWAY_REDIS_TIMEOUT": "0.8",
    "SPILLWAY_STATEMENT_TIMEOUT": "3",
    "SPILLWAY_LOCK_TIMEOUT": "1",
    "SPILLWAY_PARALLEL_LOADS": "2",
    "SPILLWAY_RETRIES": "8",
}
# Seconds between the attempts of a step, instead of 1, 2, 4 …: long enough for a fault of a second or two, and for a
# machine that is slow for a while.
DELAYS = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8]

_CLIENT_ATTEMPTS = 100  # of the campaign's own commands to Redis, every 50 ms


@dataclass
class FaultTestbed:
    """The servers that faults are injected into. Drains reach them through the three proxies `*_net`."""

    settings: Settings
    engine: Engine | None
    api: str  # the URL of Prefect's API without its proxy
    redis_net: Proxy
    postgres_net: Proxy
    prefect_net: Proxy
    environment: Mapping[str, str]
    log: Path  # output of the drains' processes
    # Starts a worker at its first call, and returns the name of the deployment. None: no worker.
    worker: Callable[[], str] | None = None
    # What was started at its first use, until the testbed ends.
    started: ExitStack = field(default_factory=ExitStack)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a drain."""
        return {
            **self.environment,
            **_LIMITS,
            "SPILLWAY_REDIS_URL": through(self.settings.redis, self.redis_net),
            "SPILLWAY_DATABASE_URL": through(self.settings.database, self.postgres_net),
        }

    @property
    def prefect_url(self) -> str:
        """The URL of Prefect's API for drains, through its proxy."""
        return through(self.api, self.prefect_net)

    @cached_property
    def dask(self) -> DaskCluster:
        """A Dask cluster, started at its first use."""
        return self.started.enter_context(dask_cluster(self.log.parent))

    @property
    def places(self) -> tuple[str, str]:
        """host:port of Redis and PostgreSQL as drains see them and as errors must name them."""
        env = self.env
        return host_of(env["SPILLWAY_REDIS_URL"]), host_of(env["SPILLWAY_DATABASE_URL"])

    def sql(self) -> psycopg.Connection:
        """A connection without the proxy, in autocommit mode."""
        return psycopg.connect(self.settings.database, autocommit=True, connect_timeout=10)

    def redis_client(self) -> redis.Redis:
        """A client without the proxy, which waits while Redis is away."""
        retry = Retry(ConstantBackoff(0.05), _CLIENT_ATTEMPTS)
        client: redis.Redis = redis.Redis.from_url(self.settings.redis, retry=retry, socket_timeout=20)
        return client

    def redis_of(self, stream: str) -> redis.Redis:
        """The same for the server that has a stream."""
        return self.redis_client()

    def stop(self, service: Service, how: StopMode) -> None:
        """Stop a server."""
        assert self.engine is not None  # `impossible` of the fault has checked it
        self.engine.stop(service, how)

    def start(self, service: Service) -> None:
        """Start a server and wait until it answers. Harmless if it runs."""
        assert self.engine is not None
        self.engine.start(service)
        if service == "redis":
            self.make_durable()

    def make_durable(self) -> None:
        """Make Redis write entries to disk before it confirms them: otherwise a kill loses entries, and the oracle is
        wrong."""
        with self.redis_client() as client:
            client.config_set("appendfsync", "always")
            # By default a new replica waits 5 s for others that may need the same copy.
            client.config_set("repl-diskless-sync-delay", 0)

    def restore(self) -> None:
        """Start all servers and repair all networks, whatever a fault has left."""
        for proxy, url in ((self.redis_net, self.settings.redis), (self.postgres_net, self.settings.database)):
            proxy.pass_on()
            proxy.lead_to(*place_of(url))
        self.prefect_net.pass_on()
        if self.engine is not None:
            self.start("timescaledb")
            self.start("redis")

    def empty(self) -> None:
        """Empty the tables, and delete all streams."""
        with self.sql() as connection:
            connection.execute("SET statement_timeout = '60s'")
            empty_tables(connection)
        with self.redis_client() as client:
            client.flushdb()

    def set_state(self, run: str, state: State) -> bool:
        """Set the state of the flow run of that name. False if there is none yet."""
        with self.prefect_client() as client:
            found = run_named(client, run)
            if found is None:
                return False
            client.set_flow_run_state(found, state, force=True)
            return True

    def prefect_client(self) -> SyncPrefectClient:
        """A client of the Prefect server, without the proxy."""
        return get_client(sync_client=True)


def run_named(client: SyncPrefectClient, name: str) -> UUID | None:
    """The id of the flow run of that name."""
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), limit=1)
    return found[0].id if found else None


def through(url: str, proxy: Proxy) -> str:
    """`url` with the proxy instead of its server."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{proxy.port}"))


def place_of(url: str) -> tuple[str, int]:
    """Host and port of a URL that has both."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


@contextmanager
def running_testbed(
    settings: Settings, engine: Engine | None, api: str, worker: Callable[[], str] | None = None
) -> Iterator[FaultTestbed]:
    """A testbed around running servers. Afterwards they have their old settings."""
    with TemporaryDirectory(prefix="spillway-campaign-") as folder, ExitStack() as stack:
        nets = [stack.enter_context(Proxy(*place_of(url))) for url in (settings.redis, settings.database, api)]
        testbed = FaultTestbed(
            settings, engine, api, nets[0], nets[1], nets[2], dict(os.environ), Path(folder) / "log", worker
        )
        stack.push(testbed.started)
        testbed.make_durable()
        try:
            yield testbed
        finally:
            testbed.restore()
            with testbed.redis_client() as client:
                client.config_set("appendfsync", "everysec")
                client.config_set("repl-diskless-sync-delay", 5)
