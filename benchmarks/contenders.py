"""What is measured: the limit, and Spillway in its ways. Each goes from a full stream to committed rows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from infra.connections import Clients, postgres_connection
from infra.mapping import Mapping, load_mappings
from infra.settings import PROJECT_ROOT, Settings
from tasks.columns.decode import Window
from tasks.columns.encode import COLUMNS, HEADER, TRAILER, payload
from tasks.load import Path as LoadPath
from tasks.load import load_batch
from tasks.plan import make_plan
from tasks.read import Batch, Limits, Reader

# Every event of the data sets, however old.
_WINDOW = Window(-(2**62), 2**62)


@dataclass(frozen=True)
class Workload:
    """A stream full of events, on throwaway servers."""

    settings: Settings
    stream: str
    events: int

    @property
    def mapping(self) -> Mapping | None:
        return load_mappings(PROJECT_ROOT / Path("spillway.toml")).of(self.stream)

    def reader(self, client: redis.Redis, connection: psycopg.Connection) -> Reader:
        """A reader of all that is left."""
        planned = make_plan(client, connection, self.stream)
        limits = Limits(self.settings.batch_rows, self.settings.batch_bytes)
        return Reader(client, self.stream, planned.gaps, limits, self.mapping, _WINDOW)

    def empty(self) -> None:
        """Empty the tables, and let the server finish what it has put off, so that no run pays for another."""
        with psycopg.connect(self.settings.database, autocommit=True) as connection:
            connection.execute("TRUNCATE events, spillway.ledger, spillway.quarantine, spillway.streams")
            connection.execute("CHECKPOINT")

    def count(self) -> int:
        """Rows in the table."""
        with psycopg.connect(self.settings.database) as connection:
            row = connection.execute("SELECT count(*) FROM events").fetchone()
        assert row is not None
        count: int = row[0]
        return count

    def batches(self) -> list[Batch]:
        """All of the stream, encoded beforehand."""
        with Clients(self.settings) as clients, clients.postgres() as connection:
            reader = self.reader(clients.redis, connection)
            return list(iter(reader.read, None))


def limit(workload: Workload, connections: int) -> Callable[[], None]:
    """Prepared binary COPY buffers, a transaction each, by so many connections with the server's own settings."""
    buffers = [payload(batch.rows) for batch in workload.batches()]
    copy_into = f"COPY events ({', '.join(COLUMNS)}) FROM STDIN (FORMAT BINARY)"

    def one(mine: list[memoryview]) -> None:
        with psycopg.connect(workload.settings.database, autocommit=True) as connection:
            for buffer in mine:
                with connection.transaction(), connection.cursor().copy(copy_into) as copy:
                    copy.write(HEADER)
                    copy.write(buffer)
                    copy.write(TRAILER)

    def run() -> None:
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(one, [buffers[i::connections] for i in range(connections)]))

    return run


def plain_drain(workload: Workload, connections: int) -> Callable[[], None]:
    """Spillway's own functions without Prefect: read, decode, encode, load with ledger, so many at a time."""

    def run() -> None:
        with Clients(workload.settings) as clients, ThreadPoolExecutor(connections) as pool:
            with clients.postgres() as connection:
                reader = workload.reader(clients.redis, connection)
            path = LoadPath()
            loading: list[Future[None]] = []

            def load(batch: Batch) -> None:
                with clients.postgres() as connection:
                    load_batch(connection, batch, "benchmark", path)
                batch.release()

            while (batch := reader.read()) is not None:
                loading.append(pool.submit(load, batch))
                if len(loading) > connections:
                    loading.pop(0).result()
            for future in loading:
                future.result()

    return run


def client_alone(workload: Workload) -> Callable[[], None]:
    """Read, decode and encode all, and send it to a server that only throws it away: what the client costs."""

    def run() -> None:
        with Clients(workload.settings) as clients, postgres_connection(workload.settings) as connection:
            connection.execute("CREATE TEMP TABLE sink (LIKE events)")
            connection.execute("CREATE OR REPLACE FUNCTION pg_temp.none() RETURNS trigger LANGUAGE plpgsql AS"
                               " 'BEGIN RETURN NULL; END'")  # fmt: skip
            connection.execute("CREATE TRIGGER none BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION pg_temp.none()")
            reader = workload.reader(clients.redis, connection)
            while (batch := reader.read()) is not None:
                with connection.cursor().copy("COPY sink FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(HEADER)
                    copy.write(payload(batch.rows))
                    copy.write(TRAILER)

    return run
