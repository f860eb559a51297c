"""Connections to Redis and PostgreSQL, with the time limits that a blocked thread cannot give itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, LifoQueue

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from infra.errors import Terminal, Transient, is_transient, one_line
from infra.settings import Settings, host_of

# Each list of entries that a GIN index has put off stays below this. What a query on `properties` costs more: 26 ms.
# See docs/design.md for what it wins.
_GIN_PENDING_LIST_LIMIT = "64MB"
# A batch that is merged goes through a temporary table: it is to stay in memory.
_TEMP_BUFFERS = "32MB"
# A peer that vanished without a word is given up after this long without an answer to what was sent.
_TCP_USER_TIMEOUT_MS = 60_000


def redis_client(settings: Settings) -> redis.Redis:
    """A client that makes one attempt a command (steps are retried, not commands) and returns bytes.

    Raises `Terminal` for a URL that is none.
    """
    try:
        client: redis.Redis = redis.Redis.from_url(
            settings.redis,
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.connect_timeout,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            client_name="spillway",
        )
    except ValueError as error:
        raise Terminal(f"SPILLWAY_REDIS_URL is no Redis URL: {one_line(error)}") from None
    # The reply as hiredis gives it: parsing it into pairs and dicts would cost as much as reading it.
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    return client


def postgres_connection(settings: Settings) -> psycopg.Connection:
    """A connection in autocommit mode whose statements, locks and idle transactions are bounded in time.

    Raises `psycopg.Error`; see `Clients.explained`.
    """
    try:
        connection = psycopg.connect(
            settings.database,
            autocommit=True,
            connect_timeout=max(2, round(settings.connect_timeout)),  # libpq's unit is whole seconds, 2 at least
            application_name="spillway",
            keepalives=1,
            keepalives_idle=30,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
        )
    except psycopg.ProgrammingError as error:
        raise Terminal(f"SPILLWAY_DATABASE_URL is no PostgreSQL URL: {one_line(error)}") from None
    statement = f"{round(settings.statement_timeout * 1000)}ms"
    # Not as startup options: poolers refuse those.
    connection.execute(
        "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),"
        " set_config('idle_in_transaction_session_timeout', %s, false), set_config('TimeZone', 'UTC', false),"
        " set_config('gin_pending_list_limit', %s, false), set_config('temp_buffers', %s, false)",
        [statement, f"{round(settings.lock_timeout * 1000)}ms", statement, _GIN_PENDING_LIST_LIMIT, _TEMP_BUFFERS],
    )
    return connection


class Clients:
    """The clients of one run, closed with it: one for Redis, and PostgreSQL connections lent to one step at a time.

    Not a `psycopg_pool`: that hides why a connection is refused behind a timeout of its own, and a step here wants
    the server's words at once.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redis = redis_client(settings)
        self._idle: LifoQueue[psycopg.Connection] = LifoQueue()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
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
            connection = postgres_connection(self.settings)
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


_NEXT_STEPS = {  # by SQLSTATE or its class
    "3D000": "create the database or mend SPILLWAY_DATABASE_URL",
    "42P01": "apply the schema: spillway schema",
    "3F000": "apply the schema: spillway schema",
    "42501": "grant the role of SPILLWAY_DATABASE_URL what it lacks",
    "53100": "free disk space on the database server; nothing is lost, the drain goes on from here",
    "53300": "raise max_connections or lower SPILLWAY_PARALLEL_LOADS",
    "55P03": "find the lock: SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
    "57014": "raise SPILLWAY_STATEMENT_TIMEOUT or lower SPILLWAY_BATCH_ROWS",
    "25006": "wait for the primary, or point SPILLWAY_DATABASE_URL at it",
}


def _next_step(error: BaseException, postgres: bool) -> str:
    variable = "SPILLWAY_DATABASE_URL" if postgres else "SPILLWAY_REDIS_URL"
    state = getattr(error, "sqlstate", None) or ""
    for key in (state, state[:2]):
        if key in _NEXT_STEPS:
            return _NEXT_STEPS[key]
    if is_transient(error):
        return f"start it (spillway up), or point {variable} at a server that runs"
    if isinstance(error, redis.exceptions.AuthenticationError | psycopg.OperationalError):
        return f"mend user and password in {variable}"
    return "see docs/operations.md"


@contextmanager
def _explained(doing: str, settings: Settings) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, redis.exceptions.RedisError) as error:
        postgres = isinstance(error, psycopg.Error)
        server = f"PostgreSQL at {host_of(settings.database)}" if postgres else f"Redis at {host_of(settings.redis)}"
        kind = Transient if is_transient(error) else Terminal
        raise kind(f"{doing}: {server}: {one_line(error)}; {_next_step(error, postgres)}") from error
