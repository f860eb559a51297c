"""Connections to Redis and PostgreSQL, all with time limits: a blocked thread cannot interrupt itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from queue import Empty, LifoQueue

import psycopg
import redis
from redis import Redis

from infra.connections.group_name import group_name
from infra.connections.redis_client import open_redis
from infra.connections.redis_cluster import RoutedRedis
from infra.connections.redis_connection import UnsupportedServer
from infra.connections.replica import Replica
from infra.connections.session import Session, open_session
from infra.errors.classify import is_transient
from infra.errors.exceptions import Terminal, Transient, WrongUse
from infra.errors.next_steps import next_step
from infra.errors.redact import may_quote_a_row, one_line
from infra.settings import Settings, host_of
from infra.url_settings import REPLICA

APPLICATION = "spillway"  # the first word of the `application_name` of our sessions
DRAIN = "drain"  # the command that a backfill yields to

# The size of a GIN index's list of pending entries. Gains and costs are in docs/design.md.
_GIN_PENDING_LIST_LIMIT = "64MB"


def redis_client(settings: Settings, url: str | None = None, replica: bool = False) -> redis.Redis:
    """A client that returns bytes and tries each command once: steps are retried, not commands.

    `url`: of another Redis than the one of the settings. `replica`: see `open_redis`. Raises `WrongUse` for an invalid
    URL, `Terminal` for a TLS file that does not exist.
    """
    url = settings.redis if url is None else url
    try:
        client = open_redis(url, settings.redis_timeout, settings.connect_timeout, replica)
    except ValueError as error:
        raise WrongUse(f"SPILLWAY_REDIS_URL: {error}") from None
    except UnsupportedServer as error:
        raise Terminal(f"Redis at {host_of(url)}: {error}") from None
    # The reply stays as hiredis returns it: converting it to pairs and dicts would cost as much as reading it.
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    client.set_response_callback("XREVRANGE", lambda reply, **_: reply)
    return client


def postgres_connection(settings: Settings, command: str = "") -> Session:
    """A connection in autocommit mode, with time limits for statements, locks and idle transactions.

    Its `application_name` is `spillway COMMAND`. Raises `psycopg.Error`; see `Clients.translate_errors`.
    """
    return open_session(
        settings.database,
        connect_timeout=settings.connect_timeout,
        application_name=f"{APPLICATION} {command}".strip(),
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        settings={"gin_pending_list_limit": _GIN_PENDING_LIST_LIMIT},
    )


class Clients:
    """The clients of one run: one for Redis, and PostgreSQL connections, each used by one step at a time.

    `command`: the one that the run belongs to, such as `drain` or `quarantine list`. Errors name it as the
    command to repeat, and pg_stat_activity shows it.

    Not a `psycopg_pool`: that hides the reason of a refused connection behind its own timeout.
    """

    def __init__(self, settings: Settings, command: str = "") -> None:
        self.settings = settings
        self.command = command
        self._idle: LifoQueue[Session] = LifoQueue()
        self._in_use: set[Session] = set()
        self._group: str | None = None

    @cached_property
    def redis(self) -> Redis:
        """Created at its first use: a backfill of files needs no Redis."""
        return redis_client(self.settings)

    @cached_property
    def replica(self) -> Replica | None:
        """Where entries are read before the primary is asked; None if the settings name no replica."""
        if not (wanted := self.settings.replica):
            return None
        url = None if wanted == REPLICA else wanted
        return Replica(redis_client(self.settings, url, replica=url is None))

    @property
    def replica_warnings(self) -> list[str]:
        """Why the primary was read instead of the replica, as far as it was."""
        replica = self.__dict__.get("replica")
        return [] if replica is None else list(replica.warnings)

    def check_replica(self) -> None:
        """Raises `UnsupportedServer` if no server names the replica that the settings ask for, `redis.RedisError`."""
        wanted = self.settings.replica
        if wanted == REPLICA and isinstance(self.redis, RoutedRedis) and self.redis.nodes(connect=True) is None:
            raise UnsupportedServer(
                "SPILLWAY_READ_FROM=replica: expected Sentinels or a Cluster, which name the replicas, found a single"
                " server; nothing was read; write the URL of its replica in SPILLWAY_READ_FROM"
            )

    def group(self, connection: psycopg.Connection) -> str:
        """The name of this database's consumer group, queried once per run."""
        if self._group is None:
            self._group = group_name(connection)
        return self._group

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        if "redis" in self.__dict__:
            self.redis.close()
        if (replica := self.__dict__.get("replica")) is not None:
            replica.client.close()
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def postgres(self) -> Iterator[psycopg.Connection]:
        """A connection that no other step uses. It is closed if it comes back broken or in a transaction."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = postgres_connection(self.settings, self.command)
        self._in_use.add(connection)
        try:
            yield connection
        except BaseException:
            # The connection itself may be the cause: the next attempt uses a new one.
            connection.close()
            raise
        finally:
            self._in_use.discard(connection)
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._idle.put(connection)
        else:
            connection.close()

    def cancel_statements(self) -> None:
        """Let the server end the statements that run at present, in whichever thread; these get an error. Sessions of a
        server that does not answer are given up."""
        in_use = list(self._in_use)
        for connection in in_use:
            connection.give_up_soon()  # before the first request, which may take a while
        if in_use:
            with ThreadPoolExecutor(len(in_use)) as pool:
                pool.map(Session.cancel_statement, in_use)

    def translate_errors(self, doing: str) -> AbstractContextManager[None]:
        """Raise errors of the two servers as `Transient` or `Terminal`, with the step, the server and the next step.

        `doing` names the step and its object, such as `load crossref 1-0..9-0`.
        """
        return _translate_errors(doing, self)


@contextmanager
def _translate_errors(doing: str, clients: Clients) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, redis.exceptions.RedisError) as error:
        postgres = isinstance(error, psycopg.Error)
        config = clients.settings
        server = f"PostgreSQL at {host_of(config.database)}" if postgres else f"Redis at {host_of(config.redis)}"
        if isinstance(error, UnsupportedServer):
            raise Terminal(f"{doing}: {server}: {one_line(error)}") from error
        kind = Transient if is_transient(error) else Terminal
        # A logged exception includes its cause, which includes the server's detail: «Failing row contains (…)».
        cause = None if isinstance(error, psycopg.Error) and may_quote_a_row(error) else error
        raise kind(f"{doing}: {server}: {one_line(error)}; {next_step(error, clients.command)}") from cause
