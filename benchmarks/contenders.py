"""What is measured: the upper limit, and variants of Spillway. Each goes from a full stream to committed rows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import redis
from psycopg import sql

from infra.connections.clients import Clients, postgres_connection
from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import StreamMapping
from infra.mapping.toml import load_mappings
from infra.settings import PROJECT_ROOT, Settings, settings
from infra.tables.read_table import default_table_name, read_table
from tasks.base.addresses import IdRange
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import EVERY_TIME
from tasks.columns.encode_rows import HEADER, TRAILER, payload
from tasks.columns.row_layout import RowLayout, bind
from tasks.ledger.plan import make_plan
from tasks.ledger.settle import settle
from tasks.streams.reader import Reader
from tasks.streams.tail import read_tail
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tests.support.tables import empty_tables

COPY_EVENTS: LiteralString = "COPY events (time, event_id, event_type, user_id, properties) FROM STDIN (FORMAT BINARY)"


@dataclass(frozen=True)
class Workload:
    """A full stream on throwaway servers."""

    settings: Settings
    stream: str
    events: int

    @property
    def mapping(self) -> StreamMapping:
        """The mapping of its stream; `BUILT_IN` for generated entries."""
        return load_mappings(PROJECT_ROOT / Path("spillway.toml")).for_stream(self.stream)

    @property
    def table(self) -> str:
        """The name of its table, as SQL."""
        return self.mapping.table or "events"

    def layout(self, connection: psycopg.Connection) -> RowLayout:
        """How its entries become rows of `events`."""
        return bind(self.mapping, read_table(connection, self.mapping.table or default_table_name()))

    def reader(self, client: redis.Redis, connection: psycopg.Connection, starts_small: bool = False) -> Reader:
        """A reader of everything that is not drained. `starts_small`: as a drain does."""
        layout = self.layout(connection)
        planned = make_plan(client, connection, self.stream, table=layout.table.regclass)
        limits = BatchLimits(self.settings.batch_rows, self.settings.batch_bytes)
        return Reader(
            client, self.stream, planned.gaps, planned.tail, limits, layout, EVERY_TIME, starts_small=starts_small
        )

    def forget(self) -> None:
        """Empty the ledger only, so that everything is drained again onto existing rows."""
        with psycopg.connect(self.settings.database, autocommit=True) as connection:
            empty_tables(connection, keep=["public.events"])
            connection.execute("CHECKPOINT")

    def empty(self) -> None:
        """Empty the tables, and let the server finish deferred work, so that no run pays for another."""
        with psycopg.connect(self.settings.database, autocommit=True) as connection:
            empty_tables(connection)
            connection.execute("CHECKPOINT")

    def count(self) -> int:
        """Rows in the table."""
        with psycopg.connect(self.settings.database) as connection:
            row = connection.execute(f"SELECT count(*) FROM {self.table}".encode()).fetchone()  # noqa: S608
        assert row is not None
        count: int = row[0]
        return count

    def batches(self) -> list[Batch]:
        """The whole stream, encoded in advance."""
        with Clients(self.settings) as clients, clients.postgres() as connection:
            reader = self.reader(clients.redis, connection)
            return list(iter(reader.read, None))


def limit(workload: Workload, connections: int, session: Sequence[LiteralString] = ()) -> Callable[[], None]:
    """Prepared binary COPY buffers, one transaction each, over this many connections with the server's settings.

    `session`: statements that prepare each session.
    """
    batches = workload.batches()
    if not all(batch.encoded.binary for batch in batches):
        raise Terminal(f"{workload.stream}: expected values that all have a binary form, found others")
    statement = _copy_statement(batches[0])
    buffers = [payload(batch.encoded.rows) for batch in batches]

    def one(mine: list[memoryview]) -> None:
        with psycopg.connect(workload.settings.database, autocommit=True) as connection:
            for prepared in session:
                connection.execute(prepared)
            for buffer in mine:
                _copy(connection, statement, buffer)

    def run() -> None:
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(one, [buffers[i::connections] for i in range(connections)]))

    return run


def plain_drain(workload: Workload, connections: int) -> Callable[[], None]:
    """Spillway's functions without Prefect: plan; read, decode, encode and load several at a time; settle."""

    def run() -> None:
        with Clients(workload.settings) as clients:
            with clients.postgres() as connection:
                table = workload.layout(connection).table.regclass
                planned = make_plan(clients.redis, connection, workload.stream, table=table)
                reader = workload.reader(clients.redis, connection, starts_small=True)
            straight = InsertRoute.STRAIGHT  # the table is empty
            _pump(clients, reader, connections, lambda c, batch: load_batch(c, batch, "benchmark", straight))
            with clients.postgres() as connection:
                settle(clients.redis, connection, planned)

    return run


def unguarded_drain(workload: Workload, connections: int) -> Callable[[], None]:
    """`plain_drain` without what makes it exactly once: no frozen tail, no ledger, no transaction around the COPY."""
    config = workload.settings
    everything = [IdRange(0, 1 << 128)]
    limits = BatchLimits(config.batch_rows, config.batch_bytes)

    def run() -> None:
        with Clients(config) as clients:
            tail = read_tail(clients.redis, workload.stream)
            with clients.postgres() as connection:
                layout = workload.layout(connection)
            reader = Reader(
                clients.redis, workload.stream, everything, tail, limits, layout, EVERY_TIME, starts_small=True
            )
            _pump(
                clients,
                reader,
                connections,
                lambda c, batch: _copy(c, _copy_statement(batch), payload(batch.encoded.rows)),
            )

    return run


def _pump(
    clients: Clients, reader: Reader, connections: int, load: Callable[[psycopg.Connection, Batch], object]
) -> None:
    """Read ahead of several loads, as the flow does."""
    loading: deque[Future[None]] = deque()

    def one(batch: Batch) -> None:
        with clients.postgres() as connection:
            load(connection, batch)

    with ThreadPoolExecutor(connections) as pool:
        while (batch := reader.read()) is not None:
            loading.append(pool.submit(one, batch))
            if len(loading) > connections:
                loading.popleft().result()
        for future in loading:
            future.result()


def cleaned(workload: Workload, work: Callable[[], None]) -> Callable[[], None]:
    """`work`, followed by the deferred work of autovacuum, such as the GIN index's pending list."""
    clean = """
        SELECT gin_clean_pending_list(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid
         WHERE relkind = 'i' AND relname ~ 'events_properties_idx$'"""

    def run() -> None:
        work()
        with psycopg.connect(workload.settings.database, autocommit=True) as connection:
            connection.execute(clean)

    return run


def flow_drain(workload: Workload, connections: int) -> Callable[[], None]:
    """The whole Prefect flow. Prefect's temporary API is started before."""
    os.environ |= {
        "SPILLWAY_REDIS_URL": workload.settings.redis,
        "SPILLWAY_DATABASE_URL": workload.settings.database,
        "SPILLWAY_PARALLEL_LOADS": str(connections),
    }
    settings.cache_clear()
    from flows.drain import drain  # imported only now: it reads the settings and Prefect's environment

    drain("no-such-stream*")

    def run() -> None:
        result = drain(workload.stream)
        if result["read"] != workload.events:
            raise Terminal(f"the flow read {result['read']} entries, expected {workload.events}")

    return run


def client_alone(workload: Workload) -> Callable[[], None]:
    """Read, decode and encode everything, and send it to a server that discards it: the cost of the client."""

    def run() -> None:
        with Clients(workload.settings) as clients, postgres_connection(workload.settings) as connection:
            connection.execute("CREATE TEMP TABLE sink (LIKE events)")
            connection.execute("CREATE OR REPLACE FUNCTION pg_temp.none() RETURNS trigger LANGUAGE plpgsql AS"
                               " 'BEGIN RETURN NULL; END'")  # fmt: skip
            connection.execute("CREATE TRIGGER none BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION pg_temp.none()")
            reader = workload.reader(clients.redis, connection)
            while (batch := reader.read()) is not None:
                _copy(
                    connection,
                    sql.Composed([sql.SQL("COPY sink FROM STDIN (FORMAT BINARY)")]),
                    payload(batch.encoded.rows),
                )

    return run


def _copy_batch(connection: psycopg.Connection, batch: Batch) -> None:
    _copy(connection, _copy_statement(batch), payload(batch.encoded.rows))


def _copy_statement(batch: Batch) -> sql.Composed:
    columns = sql.SQL(", ").join(map(sql.Identifier, batch.encoded.columns))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(batch.layout.table.identifier, columns)


def _copy(connection: psycopg.Connection, statement: sql.Composed, rows: memoryview) -> None:
    with connection.cursor().copy(statement) as copy:
        copy.write(HEADER)
        copy.write(rows)
        copy.write(TRAILER)
