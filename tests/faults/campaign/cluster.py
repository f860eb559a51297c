"""Streams in a Redis Cluster, and failovers of its nodes during drains."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cached_property

import redis

from tests.faults.campaign.fault import Fault, any_point
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.processes import errors
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import POINTS, Point
from tests.support.processes import Drain, Outcome
from tests.support.redis_groups import RedisProcess, RunningCluster, await_servers, running_cluster
from tests.support.redis_server import REDIS

_TIMEOUT_MS = 500  # after which a silent node is replaced


class ClusterTestbed(FaultTestbed):
    """The same servers, but the streams are in a Cluster, whose nodes clients reach without a proxy."""

    @classmethod
    def of(cls, testbed: FaultTestbed) -> ClusterTestbed:
        return cls(**{one.name: getattr(testbed, one.name) for one in fields(testbed)})

    @cached_property
    def cluster(self) -> RunningCluster:
        """Started at its first use: three primaries, each with a replica."""
        return self.started.enter_context(running_cluster(self.log.with_name("cluster"), 3, _TIMEOUT_MS))

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, "SPILLWAY_REDIS_URL": self.cluster.url}

    def redis_of(self, stream: str) -> redis.Redis:
        return self.cluster.owner(stream)

    def empty(self) -> None:
        super().empty()
        for node in self.cluster.nodes:
            with node.client() as client, suppress(redis.ReadOnlyError):
                client.flushall()


class ClusterFailover(Fault):
    """A replica of the Cluster replaces its primary, which is killed or frozen, or hands over when it is asked to.

    The replica has all entries by then, so nothing may be lost. The drains wait until the new primary is known.
    """

    shared = True
    on_cluster = True
    in_a_row = 3
    lasts = (0, 0)

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._way = rng.choice(["killed", "frozen", "asked"])
        self._down: RedisProcess | None = None  # the primary that was replaced

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if REDIS else "there is no redis-server on this machine"

    def moment(self) -> Point | float:
        # A preflight reports a server that is away soon, and the drain ends.
        return any_point(self.rng, [point for point in POINTS if not point.endswith(("preflight", "report"))])

    def prepare(self, series: FaultSeries) -> None:
        assert isinstance(self.testbed, ClusterTestbed)
        self._cluster = self.testbed.cluster
        self._cluster.await_level()
        seed = self._cluster.primaries[1]  # new drains ask it first
        pairs = list(zip(self._cluster.primaries, self._cluster.replicas, strict=True))
        ordered = [pair if _role(pair[0]) == "master" else pair[::-1] for pair in pairs]
        self._old, self._new = self.rng.choice(
            [pair for pair in ordered if pair[0] is not seed or self._way == "asked"]
        )
        self.note = f"the primary was {self._way}"

    def inject(self, drains: Sequence[Drain]) -> None:
        if self._way == "asked":
            with self._new.client() as client:
                client.execute_command("CLUSTER FAILOVER")
        else:
            self._down = self._old
            self._cluster.lose(self._old, signal.SIGKILL if self._way == "killed" else signal.SIGSTOP)

    def heal(self, drains: Sequence[Drain]) -> None:
        # Not before: a killed primary would return as one without any data.
        await_servers(lambda: _role(self._new) == "master")
        self.clean()

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        return errors([one for one in outcomes if "Transient: preflight: " not in (one.error or "")])

    def clean(self) -> None:
        down, self._down = self._down, None
        if down is not None and self._way == "killed":
            down.kill()
            down.start()
        elif down is not None:
            down.signal(signal.SIGCONT)
        if down is not None:
            self._cluster.replace_silent()


def _role(node: RedisProcess) -> str:
    with node.client(socket_timeout=5) as client:
        return str(client.info("replication")["role"])
