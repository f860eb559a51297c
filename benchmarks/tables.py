"""Tables of the user's own, each against a prepared COPY into the same table: python -m benchmarks.tables"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import orjson
import psycopg
import redis
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import Workload, limit, plain_drain
from benchmarks.measure import Run, Spread, ratio, timed
from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import StreamMapping
from infra.producers.send import send
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.support.tables import empty_tables

_START = datetime(2026, 11, 1, tzinfo=UTC)
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """A table and the entries for it. `values`: of one row, for the client's cost per value. `then`: after CREATE."""

    name: str
    columns: LiteralString
    entry: Callable[[random.Random, int], Values]
    values: int
    then: tuple[LiteralString, ...] = ()


def _measurement(random: random.Random, number: int) -> Values:
    """One reading of one of 100 devices, every 100 ms."""
    return {
        "time": (_START + timedelta(milliseconds=100 * number)).isoformat(),
        "device": number % 100,
        "temperature": round(random.gauss(20, 3), 2),
        "humidity": round(random.uniform(30, 90), 1),
    }


def _mixed(random: random.Random, number: int) -> Values:
    """An order line of a shop, with values of many types, some of them null."""
    return {
        "time": (_START + timedelta(milliseconds=100 * number)).isoformat(),
        "id": str(uuid.UUID(int=random.getrandbits(128), version=4)),
        "shop": number % 50,
        "customer": random.randrange(10**12),
        "position": number % 7,
        "sku": f"SKU-{random.randrange(10_000):05}",
        "name": "A name of some length",
        "country": random.choice(["DE", "FR", "US", "JP"]),
        "quantity": random.randrange(1, 20),
        "price": f"{random.randrange(1, 100_000) / 100:.2f}",
        "weight": random.random() * 10,
        "discount": None if number % 3 else round(random.random(), 3),
        "paid": number % 2 == 0,
        "gift": number % 11 == 0,
        "ordered": (_START + timedelta(seconds=number)).date().isoformat(),
        "shipped": None if number % 2 else (_START + timedelta(seconds=number)).isoformat(),
        "session": str(uuid.UUID(int=number)),
        "note": None if number % 5 else "leave it at the door",
        "tags": ["new", "sale"] if number % 4 == 0 else ["old"],
        "extra": {"campaign": number % 9, "referrer": "https://example.com/"},
    }


_MEASUREMENT: LiteralString = """
    time timestamptz NOT NULL, device int NOT NULL, temperature float8, humidity float8"""
_HYPERTABLE: LiteralString = "SELECT create_hypertable('{table}', 'time', chunk_time_interval => interval '7 days')"
_COLUMNSTORE: LiteralString = """
    ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = '',
                             timescaledb.compress_orderby = 'time')"""
_INDEXED: LiteralString = "CREATE INDEX ON {table} (device, time)"
NUMBERS, MIXED, DIRECT = "a time and 3 numbers", "20 mixed columns", "no key, direct compression"
KEYED = NUMBERS  # the table with a key that the one without is compared with
SUBJECTS = {
    NUMBERS: Subject("bench_numbers", f"{_MEASUREMENT}, PRIMARY KEY (device, time)", _measurement, 4,
                     (_HYPERTABLE, _INDEXED)),
    MIXED: Subject(
        "bench_mixed",
        """time timestamptz NOT NULL, id uuid NOT NULL, shop int2 NOT NULL, customer int8, position int, sku text,
           name varchar(100), country char(2), quantity int, price numeric(10,2), weight float8, discount float4,
           paid bool, gift bool, ordered date, shipped timestamp, session uuid, note text, tags text[], extra jsonb,
           PRIMARY KEY (id, time)""",
        _mixed,
        20,
        (_HYPERTABLE,),
    ),
    DIRECT: Subject("bench_direct", _MEASUREMENT, _measurement, 4, (_HYPERTABLE, _COLUMNSTORE)),
}  # fmt: skip


@dataclass(frozen=True)
class TableRuns:
    """The runs of one table in turns, and its size with all rows, in bytes."""

    copy: list[Run]
    drain: list[Run]
    size: int
    values: int


def measure(settings: Settings, events: int, rounds: int, say: Callable[[str], None]) -> dict[str, TableRuns]:
    """For each table that the server can have, the runs of a prepared COPY and of a drain, over one connection."""
    return {
        name: _measure(settings, name, subject, events, rounds, say)
        for name, subject in SUBJECTS.items()
        if name != DIRECT or _compresses_directly(settings)
    }


def _compresses_directly(settings: Settings) -> bool:
    with psycopg.connect(settings.database) as connection:
        row = connection.execute(
            "SELECT current_setting('timescaledb.license', true) = 'timescale'"
            " AND current_setting('timescaledb.enable_direct_compress_copy', true) IS NOT NULL"
        ).fetchone()
    return row == (True,)


def _measure(
    settings: Settings, name: str, subject: Subject, events: int, rounds: int, say: Callable[[str], None]
) -> TableRuns:
    with psycopg.connect(settings.database, autocommit=True) as connection:
        for statement in (f"CREATE TABLE {subject.name} ({subject.columns})", *subject.then):
            connection.execute(statement.format(table=subject.name).encode())
    with redis.Redis.from_url(settings.redis) as client:
        sent = send(client, subject.name, _entries(subject, events))
    workload = _TableWorkload(settings, subject.name, sent, StreamMapping(subject.name, table=subject.name))
    direct = ("SET timescaledb.enable_direct_compress_copy = on",) if name == DIRECT else ()
    works = {"copy": limit(workload, 1, direct), "drain": plain_drain(workload, 1)}
    runs: dict[str, list[Run]] = {"copy": [], "drain": []}
    size = 0
    for number in range(rounds):
        for kind, work in works.items():
            workload.empty()
            runs[kind].append(timed(sent, work))
            if workload.count() != sent:
                raise Terminal(f"{name}, {kind}: {workload.count()} rows in the table, expected {sent}")
            say(f"round {number + 1} of {rounds}: {name}: {kind}: {runs[kind][-1].rate:,.0f} rows/s")
        size = workload.size()
    return TableRuns(runs["copy"], runs["drain"], size, subject.values)


def _entries(subject: Subject, events: int) -> Iterator[dict[bytes, bytes]]:
    generator = random.Random(1)  # noqa: S311  # no secrets
    for number in range(events):
        yield {b"data": orjson.dumps(subject.entry(generator, number))}


@dataclass(frozen=True)
class _TableWorkload(Workload):
    """A full stream for a table of the user's own."""

    own_mapping: StreamMapping = StreamMapping()  # noqa: RUF009  # frozen

    @property
    def mapping(self) -> StreamMapping:
        return self.own_mapping

    @property
    def table(self) -> str:
        return self.stream

    def empty(self) -> None:
        with psycopg.connect(self.settings.database, autocommit=True) as connection:
            empty_tables(connection)
            connection.execute(f"TRUNCATE {self.table}".encode())
            connection.execute("CHECKPOINT")

    def size(self) -> int:
        """Of the table with its indexes, in bytes."""
        with psycopg.connect(self.settings.database) as connection:
            row = connection.execute("SELECT hypertable_size(%s::regclass)", [self.table]).fetchone()
        assert row is not None  # a function has one row
        size: int = row[0]
        return size


def table(found: Mapping[str, TableRuns]) -> Table:
    """Rates, ratios and client CPU of each table."""
    shown = Table("table", "COPY rows/s", "drain rows/s", "drain ÷ COPY", "client µs/row", "client µs/value", "MB")
    for name, runs in found.items():
        cpu = Spread.of([run.cpu_us for run in runs.drain]).median
        rates = [f"{Spread.of([run.rate for run in kind]).median:,.0f}" for kind in (runs.copy, runs.drain)]
        share = f"{ratio(runs.drain, runs.copy).median:.2f}"
        shown.add_row(name, *rates, share, f"{cpu:.2f}", f"{cpu / runs.values:.2f}", f"{runs.size / 1e6:.1f}")
    return shown


def main(events: int = 300_000, rounds: int = 3, engine: str | None = None) -> None:
    """Measure tables of the user's own only."""
    from benchmarks import claims  # which imports this module

    console = Console(width=110, highlight=False)
    with throwaway_servers("bench", engine) as (settings, _):
        found = measure(settings, events, rounds, console.print)
    console.print(table(found))
    for claim in claims.of_tables(found):
        console.print(f"{claim.what}: {claim.found.median:.2f} (bar {claim.bar:g})")


if __name__ == "__main__":
    typer.run(main)
