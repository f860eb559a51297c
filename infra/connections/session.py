"""Sessions of PostgreSQL: every connection is opened here, and what we rely on is set here.

What a role, a database, the environment (PGCLIENTENCODING, PGDATESTYLE, PGTZ, PGOPTIONS) or a pool set before must not
change what is stored. The settings are local to each transaction: behind a pooler in transaction mode, the next
transaction may run in another session, and this session serves other clients afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import Params
from psycopg.pq import TransactionStatus

from infra.errors.connect_sqlstate import with_sqlstate
from infra.errors.exceptions import NoAnswer, Terminal
from infra.settings import host_of

R = TypeVar("R")

# A peer that vanished without a word is given up after this long without an answer to what was sent.
_TCP_USER_TIMEOUT_MS = 60_000
# The same on the server's side, whose default is two hours: in the midst of a COPY no timeout of its own works, and the
# ledger row of a drain whose machine has vanished would bar the others for as long. After 30 + 3 * 10 s it is free.
_SERVER_KEEPALIVES = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# How much longer than a statement may take: the server itself ends it before, and says why.
_SILENCE_MARGIN_SECONDS = 5.0
# What results depend on. row_security off: rows that a policy would hide are an error, not a smaller count.
# Not default_transaction_read_only: managed servers set it when their disk is full, and mean it.
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
    "exit_on_error": "off",  # a rejected row is an error, and the session goes on from a savepoint
}
# Asked while the search_path is not ours yet, so every name has its schema. The session gets its name at once if no
# pooler is in between: a pooler gives its clients a process id of its own.
_FOUND = """
    SELECT pg_catalog.current_schemas(false)::pg_catalog.text[],
           (SELECT n.nspname FROM pg_catalog.pg_extension AS e
              JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
             WHERE e.extname OPERATOR(pg_catalog.=) 'timescaledb'),
           pg_catalog.current_setting('synchronous_commit'), pg_catalog.current_setting('session_replication_role'),
           pg_catalog.current_setting('is_superuser'),
           CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %(pid)s
                THEN pg_catalog.set_config('application_name', %(name)s, false) END IS NOT NULL"""


class Session(psycopg.Connection):
    """A connection in autocommit mode. Each transaction begins with our settings; a statement outside of one gets a
    transaction of its own. What cannot run in a transaction (VACUUM) goes through a cursor, without the settings.

    It gives up a server that is silent for longer than any statement may take. The server's own timeouts end a slow
    statement; they are of no use if their words do not arrive: a stalled network, a server that is frozen. libpq has no
    timeout for that.
    """

    patience = float("inf")  # seconds
    local_settings = b""  # SET LOCAL statements, which take no snapshot: the isolation level can still be changed

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
                    raise NoAnswer(f"no answer for {self.patience:.0f} s: the connection was given up")
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
    """A session of the database at `url`. Timeouts in seconds, 0 for none; `settings`: more of PostgreSQL's, local to
    each transaction.

    Raises `psycopg.Error`, with the server's SQLSTATE for a refused connection too, and `Terminal` for a URL that
    cannot be read, and for a database that cannot hold every text.
    """
    seconds = max(2, round(connect_timeout))  # libpq's unit is whole seconds, 2 at least
    try:
        session = Session.connect(
            url,
            autocommit=True,
            prepare_threshold=None,  # behind a pooler another client's statements may have the same names
            connect_timeout=seconds,
            client_encoding="UTF8",  # in the startup packet: stronger than any role, database or environment
            keepalives=1,
            keepalives_idle=30,
            tcp_user_timeout=_TCP_USER_TIMEOUT_MS,
        )
    except psycopg.ProgrammingError:
        # Without libpq's words: they quote the part of the URL that cannot be read, which may be the password.
        raise Terminal(
            "SPILLWAY_DATABASE_URL is not a URL like postgresql://user:password@host:5432/name: fix it, special"
            " characters as %40 and the like"
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
        session.patience = statement_timeout + _SILENCE_MARGIN_SECONDS
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise Terminal(
            f"the database at {host_of(url)} has the encoding {encoding}, expected UTF8: it cannot hold every text;"
            " nothing was written: create a database with it (createdb --encoding UTF8 --template template0 NAME) and"
            " point SPILLWAY_DATABASE_URL at that"
        )
    found = session.cursor().execute(_FOUND, {"pid": session.info.backend_pid, "name": application_name}).fetchone()
    assert found is not None  # a SELECT without FROM has one row
    schemas, extension_schema, synchronous_commit, replication_role, superuser, direct = found
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
    if not direct:  # a pooler would leave the name of a session to its next client that has none
        wanted["application_name"] = application_name
    if session.info.server_version >= 170000:
        wanted["transaction_timeout"] = "0"
    if synchronous_commit == "off":  # a drained entry may be trimmed from Redis as soon as its row is committed
        wanted["synchronous_commit"] = "on"
    if replication_role != "origin" and superuser == "on":  # foreign keys and triggers would not be heeded
        wanted["session_replication_role"] = "origin"
    path = _search_path(schemas, extension_schema)
    lines = [sql.SQL("SET LOCAL search_path = {}").format(path)]
    lines += [sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in wanted.items()]
    session.local_settings = sql.SQL("; ").join(lines).as_bytes(session)


@contextmanager
def fixed_texts(connection: psycopg.Connection) -> Iterator[None]:
    """Read values: each has one text, and a name in it its schema, whoever opened the connection and set what.

    In a transaction, or a part of one, that is rolled back: it leaves no setting behind, and nothing that is written.
    """
    wanted = {"client_encoding": "UTF8", **_RESULTS}
    lines: list[sql.Composable] = [sql.SQL("SET LOCAL search_path = pg_catalog, pg_temp")]
    lines += [sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), value) for name, value in wanted.items()]
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("; ").join(lines))
        yield


def _search_path(schemas: list[str], extension_schema: str | None) -> sql.Composed:
    """pg_catalog first: no function or operator of a user's stands before the server's own. Then what the role has,
    since triggers on `events` may rely on it, and where TimescaleDB's functions are. Temporary tables last.
    """
    others = [name for name in schemas if name != "pg_catalog" and not name.startswith("pg_temp")]
    if extension_schema and extension_schema not in others:
        others.append(extension_schema)
    return sql.SQL(", ").join(map(sql.Identifier, ["pg_catalog", *others, "pg_temp"]))
