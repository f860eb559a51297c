"""Connections to Redis and PostgreSQL, with the time limits that a blocked thread cannot give itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from queue import Empty, LifoQueue

import psycopg
import redis
from redis import Redis

from infra.connections.group_name import group_name
from infra.connections.redis_client import UnfitServer, open_redis
from infra.connections.session import Session, open_session
from infra.errors.classify import is_transient
from infra.errors.exceptions import Terminal, Transient, WrongUse
from infra.errors.next_steps import next_step
from infra.errors.redact import may_quote_a_row, one_line
from infra.settings import Settings, host_of

APPLICATION = "spillway"  # what the names of our sessions begin with
DRAIN = "drain"  # the role whose work a backfill makes room for

# Each list of entries that a GIN index has put off stays below this. What a query on `properties` costs more: 26 ms.
# See docs/design.md for what it wins.
_GIN_PENDING_LIST_LIMIT = "64MB"


def redis_client(settings: Settings) -> redis.Redis:
    """A client that makes one attempt a command (steps are retried, not commands) and returns bytes.

    Raises `Terminal` for a URL that cannot be read.
    """
    try:
        client = open_redis(settings.redis, settings.redis_timeout, settings.connect_timeout)
    except ValueError as error:
        raise WrongUse(f"SPILLWAY_REDIS_URL: {error}") from None
    except UnfitServer as error:
        raise Terminal(f"Redis at {host_of(settings.redis)}: {error}") from None
    # The reply as hiredis gives it: parsing it into pairs and dicts would cost as much as reading it.
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    client.set_response_callback("XREVRANGE", lambda reply, **_: reply)
    return client


def postgres_connection(settings: Settings, role: str = "") -> Session:
    """A connection in autocommit mode whose statements, locks and idle transactions are bounded in time.

    Raises `psycopg.Error`; see `Clients.explained`.
    """
    return open_session(
        settings.database,
        connect_timeout=settings.connect_timeout,
        application_name=f"{APPLICATION} {role}".strip(),
        statement_timeout=settings.statement_timeout,
        lock_timeout=settings.lock_timeout,
        settings={"gin_pending_list_limit": _GIN_PENDING_LIST_LIMIT},
    )


class Clients:
    """The clients of one run, closed with it: one for Redis, and PostgreSQL connections lent to one step at a time.
    `role` is what the server's list of sessions shows behind the name of Spillway.

    Not a `psycopg_pool`: that hides why a connection is refused behind a timeout of its own, and a step here wants
    the server's words at once.
    """

    def __init__(self, settings: Settings, role: str = "") -> None:
        self.settings = settings
        self._role = role
        self._idle: LifoQueue[psycopg.Connection] = LifoQueue()
        self._group: str | None = None

    @cached_property
    def redis(self) -> Redis:
        """Made when it is first asked for: a backfill of files needs no Redis."""
        return redis_client(self.settings)

    def group(self, connection: psycopg.Connection) -> str:
        """The name of this database's consumer group. It cannot change in a run, so it is asked for once."""
        if self._group is None:
            self._group = group_name(connection)
        return self._group

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        if "redis" in self.__dict__:
            self.redis.close()
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    @contextmanager
    def postgres(self) -> Iterator[psycopg.Connection]:
        """A connection that no other step uses. One that comes back broken, or in a transaction, is closed."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = postgres_connection(self.settings, self._role)
        try:
            yield connection
        except BaseException:
            # Whatever went wrong may have been the connection: the next attempt starts with a new one.
            connection.close()
            raise
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            self._idle.put(connection)
        else:
            connection.close()

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """Errors of the two servers as `Transient` or `Terminal`, naming the step, the server and what to do.

        `doing` names the step and its object, such as `load crossref 1-0..9-0`.
        """
        return _explained(doing, self.settings)


@contextmanager
def _explained(doing: str, settings: Settings) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, redis.exceptions.RedisError) as error:
        postgres = isinstance(error, psycopg.Error)
        server = f"PostgreSQL at {host_of(settings.database)}" if postgres else f"Redis at {host_of(settings.redis)}"
        if isinstance(error, UnfitServer):
            raise Terminal(f"{doing}: {server}: {one_line(error)}") from error
        kind = Transient if is_transient(error) else Terminal
        # Whoever logs an exception logs its cause too, with the server's detail: «Failing row contains (…)».
        cause = None if isinstance(error, psycopg.Error) and may_quote_a_row(error) else error
        raise kind(f"{doing}: {server}: {one_line(error)}; {next_step(error)}") from cause
