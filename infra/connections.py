"""Connections to Redis and PostgreSQL, with the time limits that a blocked thread cannot give itself."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from queue import Empty, LifoQueue
from typing import Any, TypeVar

import psycopg
import redis
from redis import Redis

from infra.errors import Terminal, Transient, is_transient, may_quote_a_row, one_line
from infra.next_steps import next_step
from infra.redis_server import UnfitServer, open_redis
from infra.settings import Settings, host_of

R = TypeVar("R")

APPLICATION = "spillway"  # what the names of our sessions begin with
DRAIN = "drain"  # the role whose work a backfill makes room for

# Each list of entries that a GIN index has put off stays below this. What a query on `properties` costs more: 26 ms.
# See docs/design.md for what it wins.
_GIN_PENDING_LIST_LIMIT = "64MB"
# A batch that is merged goes through a temporary table: it is to stay in memory.
_TEMP_BUFFERS = "32MB"
# A peer that vanished without a word is given up after this long without an answer to what was sent.
_TCP_USER_TIMEOUT_MS = 60_000
# The same on the server's side, whose default is two hours: in the midst of a COPY no timeout of its own works, and the
# ledger row of a drain whose machine has vanished would bar the others for as long. After 30 + 3 * 10 s it is free.
_SERVER_KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# How much longer than a statement may take: the server itself ends it before, and says why.
_SILENCE_MARGIN_SECONDS = 5.0


def redis_client(settings: Settings) -> redis.Redis:
    """A client that makes one attempt a command (steps are retried, not commands) and returns bytes.

    Raises `Terminal` for a URL that cannot be read.
    """
    try:
        client = open_redis(settings.redis, settings.redis_timeout, settings.connect_timeout)
    except ValueError as error:
        raise Terminal(f"SPILLWAY_REDIS_URL: {error}") from None
    except UnfitServer as error:
        raise Terminal(f"Redis at {host_of(settings.redis)}: {error}") from None
    # The reply as hiredis gives it: parsing it into pairs and dicts would cost as much as reading it.
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    client.set_response_callback("XREVRANGE", lambda reply, **_: reply)
    return client


def postgres_connection(settings: Settings, role: str = "") -> psycopg.Connection:
    """A connection in autocommit mode whose statements, locks and idle transactions are bounded in time.

    Raises `psycopg.Error`; see `Clients.explained`.
    """
    try:
        connection = _PatientConnection.connect(
            settings.database,
            autocommit=True,
            connect_timeout=max(2, round(settings.connect_timeout)),  # libpq's unit is whole seconds, 2 at least
            application_name=f"{APPLICATION} {role}".strip(),
            keepalives=1,
            keepalives_idle=30,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
        )
    except psycopg.ProgrammingError as error:
        raise Terminal(f"SPILLWAY_DATABASE_URL is no PostgreSQL URL: {one_line(error)}") from None
    connection.patience = settings.statement_timeout + _SILENCE_MARGIN_SECONDS
    statement = f"{round(settings.statement_timeout * 1000)}ms"
    wanted = {
        "statement_timeout": statement,
        "lock_timeout": f"{round(settings.lock_timeout * 1000)}ms",
        "idle_in_transaction_session_timeout": statement,
        "TimeZone": "UTC",
        "gin_pending_list_limit": _GIN_PENDING_LIST_LIMIT,
        "temp_buffers": _TEMP_BUFFERS,
        **_SERVER_KEEPALIVES,
    }
    # Not as startup options: poolers refuse those.
    connection.execute(
        "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)",
        [list(wanted), list(wanted.values())],
    )
    return connection


class _PatientConnection(psycopg.Connection):
    """A connection that gives up a server which is silent for longer than any statement may take.

    The server's own timeouts end a slow statement; they are of no use where their words do not arrive: a stalled
    network whose other end is still there, a server that is frozen. libpq has no timeout for that.
    """

    patience = float("inf")  # seconds

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        """`gen`, until nothing has come or gone for too long. psycopg wakes it up many times a second."""
        deadline = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    deadline = time.monotonic() + self.patience
                elif time.monotonic() > deadline:
                    self.pgconn.finish()  # no rollback can come through either: do not wait for it
                    raise psycopg.OperationalError(f"no answer for {self.patience:.0f} s: the connection was given up")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result


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

    @cached_property
    def redis(self) -> Redis:
        """Made when it is first asked for: a backfill of files needs no Redis."""
        return redis_client(self.settings)

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
