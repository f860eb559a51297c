"""A failover to a replica that lacks the end of a stream."""

from __future__ import annotations

import random
from collections.abc import Sequence

import redis

from infra.servers.process import ProcessEngine
from infra.servers.redis_server import RedisServer
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.produce import endless
from tests.faults.campaign.testbed import FaultTestbed
from tests.support.pause_points import Point
from tests.support.ports import free_port
from tests.support.processes import Drain, Harness, Outcome
from tests.support.redis_groups import await_servers, is_level

_TAIL_ENTRIES = 200


class ReplicaPromoted(Fault):
    """A replica is promoted that lacks drained entries: the drain refuses until the newer Redis is back.

    The other stream has lost nothing and is drained from the replica.
    """

    drains = (1, 1)
    lasting = True

    def __init__(self, testbed: FaultTestbed, rng: random.Random) -> None:
        super().__init__(testbed, rng)
        self._replica: RedisServer | None = None
        self._shortened = ""

    @classmethod
    def impossible(cls, testbed: FaultTestbed) -> str | None:
        return None if isinstance(testbed.engine, ProcessEngine) else "a second Redis cannot be started here"

    def prepare(self, series: FaultSeries) -> None:
        shortened = self.rng.choice(series.produced)
        self._shortened = shortened.stream
        port = self._start_replica()
        with self.testbed.redis_client() as primary, redis.Redis(port=port, socket_timeout=10) as replica:
            replica.replicaof("127.0.0.1", str(self.testbed.settings.redis_port))
            await_servers(lambda: is_level(primary, replica))
            replica.replicaof("NO", "ONE")
            shortened.send(primary, next(endless(self.rng.randrange(1 << 32), _TAIL_ENTRIES)))
        before = Drain(shortened.stream, self.testbed.env, Harness(log=self.testbed.log)).finished()
        if "error" in before:
            raise AssertionError(f"the drain before the failover failed: {before['error']}")
        self.testbed.redis_net.lead_to("127.0.0.1", port)

    def _start_replica(self) -> int:
        engine = self.testbed.engine
        assert isinstance(engine, ProcessEngine)
        user, port = engine.host.user("redis", "nobody"), free_port()
        self._replica = RedisServer(engine.host, engine.folder / "replica", user, engine.redis_program())
        self._replica.launch(port)
        with redis.Redis(port=port) as replica:
            await_servers(replica.ping)
        return port

    def moment(self) -> Point | float:
        return 0.0

    def inject(self, drains: Sequence[Drain]) -> None:
        pass  # `prepare` has already done it

    def heal(self, drains: Sequence[Drain]) -> None:
        self.testbed.restore()  # `rewind.py` covers the other solution, accept-rewind

    def complain(self, outcomes: Sequence[Outcome]) -> list[str]:
        error = outcomes[0].error or "none"
        if f"stream {self._shortened} went back: its last id is " in error and "nothing was read" in error:
            return []
        return [f"expected that {self._shortened} is refused, found: {error}"]

    def clean(self) -> None:
        if self._replica is not None:
            self._replica.stop("kill")
