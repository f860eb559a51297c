"""Several Redis servers that belong together: a Cluster, or a primary with a replica and three Sentinels."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.support.ports import free_port
from tests.support.redis_server import REDIS, await_answer
from tests.support.waiting import wait_until

SERVICE = "events-primary"
_SLOTS = 16384
# Until a silent server is replaced: only one that the test has lost, not one that a busy machine has stopped.
_PATIENT_MS = 3_600_000
_QUICK_MS = 1_000


class RedisProcess:
    """A Redis or a Sentinel as a process of its own, on `port`, which a test can kill."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port, self.bus_port = free_port(), free_port()
        folder.mkdir(parents=True)
        if "--cluster-enabled" in options:
            options += ("--cluster-port", str(self.bus_port))
        common = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._command = [str(REDIS), *options, *common]
        self.start()

    def start(self) -> None:
        """Start it, also again after `kill`."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        with self.client() as client, suppress(redis.AuthenticationError):
            await_answer(client.ping)

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, with all its data. Harmless if it has ended."""
        self._process.kill()
        self._process.wait(120)


def await_servers(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds. A server that does not answer does not fulfil it yet."""

    def holds() -> bool:
        with suppress(redis.RedisError):
            return bool(condition())
        return False

    wait_until(holds)


@dataclass
class RunningCluster:
    """Three primaries with a third of the slots each, and replicas of the first ones, as they were at the start."""

    primaries: list[RedisProcess]
    replicas: list[RedisProcess]
    quick_ms: int

    def lose(self, node: RedisProcess, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a node a signal. From now on the others replace it."""
        node.signal(number)
        self.replace_silent(self.quick_ms, lost=node)

    def replace_silent(self, after_ms: int = _PATIENT_MS, lost: RedisProcess | None = None) -> None:
        """Let the nodes replace one that is silent for so long."""
        for node in self.nodes:
            if node is not lost:
                with suppress(redis.ConnectionError), node.client() as client:
                    client.config_set("cluster-node-timeout", after_ms)

    @property
    def replica(self) -> RedisProcess:
        """That of the first primary."""
        return self.replicas[0]

    @property
    def nodes(self) -> list[RedisProcess]:
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.primaries[1].port}/0"

    def owner(self, key: str) -> redis.Redis:
        """A client of the node that has a key."""
        for node in self.nodes:
            client = node.client()
            with suppress(redis.RedisError):
                client.type(key)
                return client
        raise AssertionError(f"no node has {key}")

    def name_on(self, number: int) -> str:
        """A name of a stream that primary `number` has."""
        names = (f"stream-{n}" for n in range(1_000))
        port = self.primaries[number].port
        return next(one for one in names if self.owner(one).connection_pool.connection_kwargs["port"] == port)

    def await_level(self) -> None:
        """Wait until all nodes agree, and each replica has everything that its primary has."""
        await_servers(lambda: all(_sees(one, len(self.nodes)) for one in self.nodes))
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            with primary.client() as one, replica.client() as other:
                await_servers(lambda ends=(one, other): is_level(*ends) or is_level(*reversed(ends)))


def is_level(primary: redis.Redis, replica: redis.Redis) -> bool:
    """Whether the replica has everything that the primary has."""
    far: Any = replica.info("replication")
    near: Any = primary.info("replication")
    linked = (near["role"], far["role"], far.get("master_link_status")) == ("master", "slave", "up")
    return linked and int(far["slave_repl_offset"]) == int(near["master_repl_offset"])


@contextmanager
def running_cluster(folder: Path, replicas: int = 1, timeout_ms: int = 1500) -> Iterator[RunningCluster]:
    """`replicas`: how many of the primaries have one. `timeout_ms`: when a node that is lost is replaced."""
    with ExitStack() as stack:

        def node(name: str) -> RedisProcess:
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout_ms), "--save", ""]
            process = RedisProcess(folder / name, *options, "--appendonly", "no", "--repl-diskless-sync-delay", "0")
            stack.callback(process.kill)
            return process

        cluster = RunningCluster(
            [node(f"primary{number}") for number in range(3)],
            [node(f"replica{number}") for number in range(replicas)],
            timeout_ms,
        )
        for number, primary in enumerate(cluster.primaries):
            with primary.client() as client:
                first, stop = (_SLOTS * at // 3 for at in (number, number + 1))
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, stop - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        nodes = cluster.nodes
        with nodes[0].client() as first_node:
            for other in nodes[1:]:
                first_node.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.bus_port)
        await_servers(lambda: all(_sees(one, len(nodes)) for one in nodes))
        for primary, replica in zip(cluster.primaries, cluster.replicas, strict=False):
            with primary.client() as its, replica.client() as client:
                client.execute_command("CLUSTER REPLICATE", its.execute_command("CLUSTER MYID"))
        cluster.await_level()
        await_servers(lambda: all(_lists(one, replica) for one in nodes for replica in cluster.replicas))
        cluster.replace_silent()
        yield cluster


def _sees(node: RedisProcess, nodes: int) -> bool:
    with node.client(socket_timeout=5) as client:
        info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


def _lists(node: RedisProcess, replica: RedisProcess) -> bool:
    """Whether a node names the replica to its clients."""
    with node.client() as client:
        shards = client.execute_command("CLUSTER SLOTS")
    return any(node[1] == replica.port for _, _, *nodes in shards for node in nodes[1:])


@dataclass
class WatchedRedis:
    """A primary and its replica, watched by three Sentinels."""

    primary: RedisProcess
    replica: RedisProcess
    sentinels: list[RedisProcess]

    def lose_primary(self) -> None:
        """Kill it. From now on the Sentinels replace it."""
        self.primary.kill()
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                client.execute_command("SENTINEL SET", SERVICE, "down-after-milliseconds", _QUICK_MS)

    def url(self, service: str = SERVICE, login: str = "", parameters: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{login}{hosts}/{service}/0{parameters}"


@contextmanager
def watched_redis(folder: Path, *sentinel_lines: str) -> Iterator[WatchedRedis]:
    with ExitStack() as stack:

        def started(name: str, *options: str) -> RedisProcess:
            process = RedisProcess(folder / name, *options)
            stack.callback(process.kill)
            return process

        plain = ("--save", "", "--appendonly", "no")
        primary = started("primary", *plain)
        replica = started("replica", *plain, "--replicaof", f"127.0.0.1 {primary.port}")
        sentinels = []
        for number in range(3):
            config = folder / f"sentinel{number}.conf"
            lines = (
                f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {_PATIENT_MS}",
                f"sentinel failover-timeout {SERVICE} 5000",
            )
            config.write_text("\n".join([*lines, *sentinel_lines, ""]))
            sentinels.append(started(f"sentinel{number}", str(config), "--sentinel"))
        with replica.client() as client:
            await_servers(lambda: client.info("replication").get("master_link_status") == "up")
        await_servers(lambda: all(_knows_all(one) for one in sentinels))
        yield WatchedRedis(primary, replica, sentinels)


def _knows_all(sentinel: RedisProcess) -> bool:
    with sentinel.client() as client:
        try:
            found: Any = client.sentinel_master(SERVICE)
        except redis.AuthenticationError:  # the test gives it a password
            return True
    return bool(found["num-other-sentinels"] == 2 and found["num-slaves"] == 1)
