"""Sessions of PostgreSQL. Every connection is opened here, and everything that results depend on is set here.

Settings of a role, a database, the environment (PGCLIENTENCODING, PGDATESTYLE, PGTZ, PGOPTIONS) or a pool must not
change what is stored. Ours are local to each transaction: behind a pooler in transaction mode the next transaction may
run in another session, and this session serves other clients afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.pq import TransactionStatus

from infra.connections.password_file import without_open_password_file
from infra.errors.connect_sqlstate import with_sqlstate
from infra.errors.exceptions import NoAnswer, Terminal, WrongUse
from infra.settings import host_of

R = TypeVar("R")

# How long sent data may stay unacknowledged before the connection is given up.
_TCP_USER_TIMEOUT_MS = 60_000
# The same on the server's side, where the default is two hours. During a COPY no other timeout applies: the ledger row
# of a drain whose machine has vanished would block the others for that long. It is now released after 30 + 3 * 10 s.
_SERVER_KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# Added to the limit of a statement, so that the server ends it first and reports why.
_SILENCE_MARGIN_SECONDS = 5.0
_CANCEL_SECONDS = 5.0  # for the request to cancel a statement
_LAST_SECONDS = 10.0  # for the answer of a session that is to end
# What results depend on. row_security off: a row that a policy would hide is an error, not a smaller count.
# default_transaction_read_only is not set: managed servers set it on purpose when their disk is full.
_RESULTS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",
    "exit_on_error": "off",  # after a rejected row the session continues from a savepoint
}
# It runs before the search_path is set, so every name has its schema. The session is named here if there is no pooler
# in between, which would report a different process id than the server.
_INITIAL_STATE = """
    SELECT pg_catalog.current_schemas(false)::pg_catalog.text[],
           (SELECT n.nspname FROM pg_catalog.pg_extension AS e
              JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
             WHERE e.extname OPERATOR(pg_catalog.=) 'timescaledb'),
           pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('session_replication_role'),
           pg_catalog.current_setting('is_superuser'),
           CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %(pid)s
                THEN pg_catalog.set_config('application_name', %(name)s, false) END IS NOT NULL"""


class Session(psycopg.Connection):
    """A connection in autocommit mode. Each transaction begins with our settings, and a statement outside of one gets
    its own transaction. A statement that cannot run in a transaction (VACUUM) needs a cursor, and runs without the
    settings.

    It gives up a server that is silent for longer than any statement may take. The server's timeouts end a slow
    statement, but do not help if its answer never arrives (stalled network, frozen server). libpq has no timeout for
    that.
    """

    silence_limit = float("inf")  # seconds of silence until the connection is given up
    give_up_at = float("inf")  # by `time.monotonic`: then it is given up, silent or not
    local_settings = b""  # SET LOCAL statements. They take no snapshot, so the isolation level can still be changed

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as transaction:
            if outermost and self.local_settings:
                self.cursor().execute(self.local_settings)
            yield transaction

    def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[Any]:
        if self.info.transaction_status != TransactionStatus.IDLE:
            return super().execute(query, params, prepare=prepare, binary=binary)
        with self.transaction():
            return super().execute(query, params, prepare=prepare, binary=binary)

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        bounded = self._bounded(gen)
        try:
            return super().wait(bounded, *args, **kwargs)
        except (Exception, KeyboardInterrupt):  # for the latter, psycopg does the same
            raise
        except BaseException:  # another signal
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.cancel_statement()
                with suppress(psycopg.Error):
                    super().wait(bounded, *args, **kwargs)
            raise

    def give_up_soon(self) -> None:
        """Wait at most 10 s more for the server, whatever runs, and also for a rollback."""
        self.give_up_at = min(self.give_up_at, time.monotonic() + _LAST_SECONDS)

    def cancel_statement(self) -> None:
        """Let the server end the statement that runs, if there is one; also from another thread. The statement gets an
        error, and if the server does not answer, the connection is given up.
        """
        self.give_up_soon()
        if self.info.transaction_status == TransactionStatus.ACTIVE:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=_CANCEL_SECONDS)

    def _bounded(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        """`gen` with a time limit for silence. psycopg resumes it many times per second."""
        deadline = time.monotonic() + self.silence_limit
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if now > self.give_up_at or (not ready and now > deadline):
                    self.pgconn.finish()  # do not wait for a rollback: it would not arrive either
                    limit = f"for {self.silence_limit:.0f} s" if now <= self.give_up_at else "in time"
                    raise NoAnswer(f"no answer {limit}, so the connection was given up")
                if ready:
                    deadline = now + self.silence_limit
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result


def open_session(
    url: str,
    *,
    connect_timeout: float,
    application_name: str = "spillway",
    statement_timeout: float = 0,
    lock_timeout: float = 0,
    settings: Mapping[str, str] | None = None,
) -> Session:
    """Open a session of the database at `url`.

    Timeouts are in seconds, 0 for none. `settings`: further settings of PostgreSQL, local to each transaction. Raises
    `psycopg.Error`, also for a refused connection with the server's SQLSTATE, `WrongUse` for an invalid URL, and
    `Terminal` for a database whose encoding is not UTF8.
    """
    seconds = max(2, round(connect_timeout))  # libpq takes whole seconds, at least 2
    url = without_open_password_file(url)
    try:
        session = Session.connect(
            url,
            autocommit=True,
            prepare_threshold=None,  # behind a pooler, statements of another client may have the same names
            connect_timeout=seconds,
            client_encoding="UTF8",  # in the startup packet it overrides role, database and environment
            keepalives=1,
            keepalives_idle=30,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
        )
    except psycopg.ProgrammingError:
        # Without libpq's message: it quotes the invalid part of the URL, which may be the password.
        raise WrongUse(
            "SPILLWAY_DATABASE_URL: expected a URL like postgresql://user:password@host:5432/name, found something"
            " else; write special characters in it as %40 and the like"
        ) from None
    except psycopg.OperationalError as error:
        raise with_sqlstate(error, url, seconds) from None
    try:
        _prepare(session, url, application_name, statement_timeout, lock_timeout, settings or {})
    except BaseException:
        session.close()
        raise
    return session


def _prepare(
    session: Session,
    url: str,
    application_name: str,
    statement_timeout: float,
    lock_timeout: float,
    more: Mapping[str, str],
) -> None:
    if statement_timeout:
        session.silence_limit = statement_timeout + _SILENCE_MARGIN_SECONDS
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Terminal(
            f"the database at {host_of(url)}: expected the encoding UTF8, which holds every text, found {encoding};"
            " nothing was written; create another (createdb --encoding UTF8 --template template0 NAME) and"
            " point SPILLWAY_DATABASE_URL at it"
        )
    parameters = {"pid": session.info.backend_pid, "name": application_name}
    state = session.cursor().execute(_INITIAL_STATE, parameters).fetchone()
    assert state is not None  # a SELECT without FROM has one row
    schemas, extension_schema, synchronous_commit, replication_role, superuser, direct = state
    session.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    timeout = f"{round(statement_timeout * 1000)}ms"
    wanted = {
        **_RESULTS,
        "statement_timeout": timeout,
        "lock_timeout": f"{round(lock_timeout * 1000)}ms",
        "idle_in_transaction_session_timeout": timeout,
        **_SERVER_KEEPALIVES,
        **more,
    }
    if not direct:  # a pooler would pass the session's name on to its next client without one
        wanted["application_name"] = application_name
    if session.info.server_version >= 170000:
        wanted["transaction_timeout"] = "0"
    if synchronous_commit == "off":  # a drained entry may be trimmed from Redis once its row is committed
        wanted["synchronous_commit"] = "on"
    if replication_role != "origin" and superuser == "on":  # foreign keys and triggers would not apply
        wanted["session_replication_role"] = "origin"
    path = _search_path(schemas, extension_schema)
    lines = [sql.SQL("SET LOCAL search_path = {}").format(path)]
    lines += [sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in wanted.items()]
    session.local_settings = sql.SQL("; ").join(lines).as_bytes(session)


@contextmanager
def fixed_texts(connection: psycopg.Connection) -> Iterator[None]:
    """A block in which every value has exactly one text, whatever the settings of the connection. For reading only.

    It is a transaction or savepoint that is rolled back, so neither settings nor writes remain.
    """
    wanted = {"client_encoding": "UTF8", **_RESULTS}
    lines: list[sql.Composable] = [sql.SQL("SET LOCAL search_path = pg_catalog, pg_temp")]
    lines += [sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in wanted.items()]
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("; ").join(lines))
        yield


def _search_path(schemas: list[str], extension_schema: str | None) -> sql.Composed:
    """The search_path: pg_catalog first, so that no user's function or operator hides a built-in one; then the role's
    schemas, because triggers on `events` may rely on them; then TimescaleDB's; temporary tables last.
    """
    others = [name for name in schemas if name != "pg_catalog" and not name.startswith("pg_temp")]
    if extension_schema and extension_schema not in others:
        others.append(extension_schema)
    return sql.SQL(", ").join(map(sql.Identifier, ["pg_catalog", *others, "pg_temp"]))
