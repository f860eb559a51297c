"""A client that sends each command to the node of a Redis Cluster that has its key.

redis-py's own client of a Cluster repeats commands, and asks the server where the key of each command is. This one
tries each command once, as for a single server, and knows the few commands that Spillway uses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import redis
from redis import exceptions
from redis.cluster import parse_cluster_slots
from redis.crc import key_slot

from infra.connections.redis_connection import ClusterNode, connect_to_node, connect_to_replica_node

# These name their key after a subcommand. All other commands of ours that have a key name it first.
_WITH_SUBCOMMAND = frozenset({"XINFO", "XGROUP", "MEMORY"})
_WITHOUT_KEY = frozenset({"ACL", "CLIENT", "CONFIG", "DBSIZE", "INFO", "PING", "SCAN", "TIME"})
# After one of these, the next command first asks where the keys are now.
_MOVED = (
    exceptions.AskError,  # includes MOVED
    exceptions.ClusterDownError,
    exceptions.ConnectionError,
    exceptions.TimeoutError,
)


class RoutedRedis(redis.Redis):
    """A client of one server. If that turns out to be a node of a Cluster, a client of all its nodes.

    For commands that are sent together, see `on_each_node`: a pipeline is always for one server.
    """

    # Send commands to replicas as far as there are any.
    reads_replicas = False
    _nodes: Nodes | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """The reply of the server, or of the node that has the key."""
        if self._nodes is None:
            try:
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except ClusterNode:
                self.becomes_cluster()
        nodes = self.becomes_cluster()
        with nodes.watched():
            return nodes.client_of(args).execute_command(*args, **options)

    def close(self) -> None:
        """Close all connections."""
        super().close()
        if self._nodes is not None:
            self._nodes.close()

    def nodes(self, connect: bool = False) -> Nodes | None:
        """The nodes of the Cluster; None if it is a single server. `connect`: find out, if no command has yet."""
        if self._nodes is None and connect:
            try:
                self.connection_pool.release(self.connection_pool.get_connection())
            except ClusterNode:
                self.becomes_cluster()
        return self._nodes

    def becomes_cluster(self) -> Nodes:
        """From now on, commands go to the nodes of the Cluster."""
        self._nodes = self._nodes or Nodes(self, self.reads_replicas)
        return self._nodes


class ReplicaRedis(RoutedRedis):
    """The same for reading from the replicas of a Cluster."""

    reads_replicas = True


def primaries(client: redis.Redis) -> list[redis.Redis]:
    """A client of each primary of a Cluster; `client` itself if it is that of one server. Raises `RedisError`."""
    nodes = client.nodes(connect=True) if isinstance(client, RoutedRedis) else None
    if nodes is None:
        return [client]
    with nodes.watched():
        return nodes.primaries()


def scan_pages(client: redis.Redis, **options: Any) -> Iterator[list[bytes]]:
    """The keys of each SCAN with `options` until all primaries are scanned. Raises `RedisError`.

    A key that moves to another node meanwhile may come twice, or not at all.
    """
    nodes = client.nodes(connect=True) if isinstance(client, RoutedRedis) else None
    with nodes.watched() if nodes is not None else nullcontext():
        for node in [client] if nodes is None else nodes.primaries():
            cursor = None
            while cursor != 0:
                reply: Any = node.scan(cursor or 0, **options)
                cursor, keys = reply
                yield keys


def owner_of(client: redis.Redis, key: str) -> redis.Redis:
    """The client of the node that has a key; `client` itself if it is that of one server. Raises `RedisError`."""
    nodes = client.nodes(connect=True) if isinstance(client, RoutedRedis) else None
    if nodes is None:
        return client
    with nodes.watched():
        return nodes.client_of(("TYPE", key))


def on_each_node(
    client: redis.Redis,
    commands: Sequence[Sequence[Any]],
    execute: Callable[[redis.Redis, Sequence[Any]], list[Any]],
) -> list[Any]:
    """The replies of `execute(client, commands)`. In a Cluster, it is called for each node that has some of the keys.

    Commands without a key go to the node of the first key. Raises what `execute` raises, and `RedisError`.
    """
    nodes = client.nodes() if isinstance(client, RoutedRedis) else None
    if nodes is None:
        try:
            return execute(client, commands)
        except ClusterNode:
            assert isinstance(client, RoutedRedis)  # no other client meets one
            nodes = client.becomes_cluster()
    replies: list[Any] = [None] * len(commands)
    with nodes.watched():
        for node, numbers in _by_node(nodes, commands):
            found = execute(node, [commands[number] for number in numbers])
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply
    return replies


def _by_node(nodes: Nodes, commands: Sequence[Sequence[Any]]) -> list[tuple[redis.Redis, list[int]]]:
    """The client of each node, and the numbers of the commands for it."""
    found: dict[int, tuple[redis.Redis, list[int]]] = {}
    keyed = next((args for args in commands if _key(args) is not None), ())
    for number, args in enumerate(commands):
        client = nodes.client_of(args if _key(args) is not None else keyed)
        found.setdefault(id(client), (client, []))[1].append(number)
    return list(found.values())


def _key(args: Sequence[Any]) -> Any:
    """The key of a command; None if it has none. redis-py writes `XINFO STREAM` as one word or as two."""
    command, *words = str(args[0]).upper().split() if args else ("PING",)
    if command in _WITHOUT_KEY:
        return None
    if command == "EVAL_RO":  # script, number of keys, first key
        return args[3]
    return args[2 if command in _WITH_SUBCOMMAND and not words else 1]


class Nodes:
    """The nodes of a Cluster, each with a client. `seed`: the client of the node that the user named.

    `reads_replicas`: choose a replica of each primary that has one.
    """

    def __init__(self, seed: redis.Redis, reads_replicas: bool = False) -> None:
        self._seed = seed
        self._reads_replicas = reads_replicas
        self._clients: dict[tuple[str, int], redis.Redis] = {}
        self._slots: list[tuple[int, int, redis.Redis]] = []
        self._is_stale = True

    def client_of(self, args: Sequence[Any]) -> redis.Redis:
        """The client for a command; any node if it has no key. Raises `RedisError` if no node answers."""
        self._refresh()
        key = _key(args)
        if key is None:
            return self._slots[0][2]
        slot = key_slot(key if isinstance(key, bytes) else str(key).encode())
        for first, last, client in self._slots:
            if first <= slot <= last:
                return client
        raise exceptions.ClusterDownError(f"no node of the Cluster has the slot {slot}")

    def primaries(self) -> list[redis.Redis]:
        """The clients of the nodes that have keys. Raises `RedisError` if no node answers."""
        self._refresh()
        return list(dict.fromkeys(client for _, _, client in self._slots))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look again where the keys are after an error of the block that says they have moved."""
        try:
            yield
        except _MOVED:
            self._is_stale = True
            raise

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        slots = self._ask()
        self._slots = [(*of, self._client(*owner)) for of, owner in sorted(slots.items())]
        if not self._slots:
            raise exceptions.ClusterDownError("no node of the Cluster has any slot")
        self._is_stale = False

    def _ask(self) -> dict[tuple[int, int], tuple[str, int]]:
        """The node for each range of slots, as the first node that answers says."""
        options = self._seed.connection_pool.connection_kwargs
        seed = (options["host"], options["port"])
        refused: exceptions.RedisError | None = None
        for host, port in dict.fromkeys([*self._clients, seed]):
            try:
                found = parse_cluster_slots(self._client(host, port).execute_command("CLUSTER SLOTS"))
            except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
                refused = refused or error
                continue
            # A node that does not know its own address gives none.
            return {slots: (name or host, at) for slots, (name, at) in map(self._chosen, found.items())}
        assert refused is not None  # the seed was asked
        raise refused

    def _chosen(self, owned: tuple[tuple[int, int], Any]) -> tuple[tuple[int, int], tuple[str, int]]:
        """The node to use for some slots, of those that have them."""
        slots, nodes = owned
        replicas = nodes["replicas"] if self._reads_replicas else []
        return slots, random.choice(replicas) if replicas else nodes["primary"]  # noqa: S311

    def _client(self, host: str, port: int) -> redis.Redis:
        if (host, port) not in self._clients:
            pool = self._seed.connection_pool
            connect = connect_to_replica_node if self._reads_replicas else connect_to_node
            options = pool.connection_kwargs | {"host": host, "port": port, "redis_connect_func": connect}
            client = redis.Redis.from_pool(redis.ConnectionPool(connection_class=pool.connection_class, **options))
            client.response_callbacks = self._seed.response_callbacks
            self._clients[host, port] = client
        return self._clients[host, port]
