"""Many random tables, and entries for each, drained and compared with the oracle:

python -m tests.any_table.campaign --seed 1 --cases 20000
"""

from __future__ import annotations

import random as random_module
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated

import psycopg
import typer
from psycopg import sql

import tests.environment  # noqa: F401
from infra.connections.clients import Clients
from infra.servers.throwaway import throwaway_servers
from tests.any_table.columns import SCHEMA, TYPES
from tests.any_table.compare import PredictedEntries, differences
from tests.any_table.draining import EARLIEST, LATEST, drain
from tests.any_table.entries import Rows
from tests.any_table.mappings import RandomMapping, random_mapping
from tests.any_table.oracle import TableOracle, TwinTables
from tests.any_table.tables import RandomTable, random_table
from tests.fuzz.jsonb import Undecided
from tests.fuzz.prediction import Fate
from tests.fuzz.streams import add, ids
from tests.support.plain_postgres import PlainEngine
from tests.support.tables import delete_ledger_rows

# Where the oracle has its tables.
_TWIN, _PROBE = "twin", "probe"
# Batches and entries of the rounds of a table: small batches go different ways, large ones see several defects.
ROUNDS = ((1, 20), (7, 60), (40, 60), (500, 160))


@dataclass
class Report:
    """What a campaign found. `failures`: table number → its differences."""

    cases: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    failures: dict[int, list[str]] = field(default_factory=dict)


@contextmanager
def prepared(connection: psycopg.Connection) -> Iterator[None]:
    """The types and schemas of the campaign, which are dropped at the end."""
    drop = f"DROP SCHEMA IF EXISTS {_PROBE}, {_TWIN}, {SCHEMA} CASCADE"
    connection.execute("SET client_min_messages = error; SET synchronous_commit = off")
    connection.execute(drop.encode())
    connection.execute(TYPES.encode())
    connection.execute(f"CREATE SCHEMA {_TWIN}; CREATE SCHEMA {_PROBE}".encode())
    try:
        yield
    finally:
        connection.execute(drop.encode())


@dataclass
class TableCase:
    """A random table, its mapping, and the entries of its stream."""

    number: int
    seed: str
    rounds: Sequence[tuple[int, int]] = ROUNDS
    with_timescaledb: bool = True
    table: RandomTable = field(init=False)
    mapping: RandomMapping = field(init=False)

    def __post_init__(self) -> None:
        self.table = random_table(Random(f"{self.seed} {self.number} table"), self.number, self.with_timescaledb)
        self.stream = f"any-table-{self.number}"
        self.mapping = random_mapping(Random(f"{self.seed} {self.number} mapping"), self.stream, self.table)

    def name_in(self, schema: str) -> str:
        return sql.Identifier(schema, self.table.name).as_string(None)

    def create(self, connection: psycopg.Connection) -> None:
        for schema in (SCHEMA, _TWIN):
            for statement in self.table.statements(schema):
                connection.execute(statement.encode())
        like = f"CREATE TABLE {self.name_in(_PROBE)} (LIKE {self.name_in(_TWIN)} INCLUDING DEFAULTS INCLUDING GENERATED"
        connection.execute(f"{like} INCLUDING IDENTITY)".encode())

    def drop(self, connection: psycopg.Connection) -> None:
        for schema in (_PROBE, _TWIN, SCHEMA):
            connection.execute(f"DROP TABLE {self.name_in(schema)}".encode())

    def oracle(self, connection: psycopg.Connection) -> TableOracle:
        return TableOracle(
            connection,
            TwinTables(self.name_in(_TWIN), self.name_in(_PROBE)),
            self.table.key,
            self.table.time,
            EARLIEST,
            LATEST,
            self.mapping.sources,
            self.mapping.nulls,
            self.mapping.layout,
        )

    def run(self, clients: Clients, connection: psycopg.Connection, folder: Path, report: Report) -> list[str]:
        """Drain all rounds. Returns the differences after the last one, or the first one that has some."""
        mappings = folder / "spillway.toml"
        mappings.write_text(self.mapping.toml)
        predicted = PredictedEntries(self.oracle(connection))
        rows = Rows(Random(f"{self.seed} {self.number} rows"), self.table, self.mapping.naming)
        numbers = ids(Random(f"{self.seed} {self.number} ids"))
        found: list[str] = []
        # Of two entries of a batch that collide in a second unique index, any may become the row.
        alone = any(column.name == "second" for column in self.table.columns)
        for batch_rows, count in ((1, 100),) if alone else self.rounds:
            entries = []
            for fields in rows.entries(count, self.mapping.layout):
                entry_id = next(numbers)
                try:
                    predicted.predict(entry_id, fields)
                except Undecided:
                    continue
                entries.append((entry_id, fields))
            add(clients.redis, self.stream, entries)
            drain(clients, self.stream, mappings, batch_rows)
            tables = self.name_in(SCHEMA), self.name_in(_TWIN)
            found = differences(connection, self.stream, predicted, tables, self.table)
            if found:
                found = [f"batches of {batch_rows}", *found]
                break
        report.cases += predicted.oracle.counts.total()
        report.fates += predicted.oracle.counts
        predicted.oracle.close()
        return found


def run_campaign(
    clients: Clients,
    connection: psycopg.Connection,
    seed: str,
    cases: int,
    first: int = 0,
    rounds: Sequence[tuple[int, int]] = ROUNDS,
    verbose: bool = False,
) -> Report:
    """Random tables until there were this many cases: an entry and a table. `rounds`: sizes of batches, and entries."""
    report, number = Report(), first
    query = "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    with_timescaledb = connection.execute(query).fetchone() == (True,)
    with prepared(connection), TemporaryDirectory() as folder:
        while report.cases < cases:
            case = TableCase(number, seed, rounds, with_timescaledb)
            found = _run_one(case, clients, connection, Path(folder), report)
            if found:
                report.failures[number] = found
                if verbose:
                    typer.echo(f"table {number}: {'; '.join(case.table.statements(SCHEMA))}\n{case.mapping.toml}")
                    typer.echo("\n".join(f"  {line}" for line in found))
            number += 1
    return report


def _run_one(
    case: TableCase, clients: Clients, connection: psycopg.Connection, folder: Path, report: Report
) -> list[str]:
    """The differences of one table. Everything is empty afterwards."""
    case.create(connection)
    try:
        return case.run(clients, connection, folder, report)
    except Exception as error:
        report.cases += 1
        return [f"the drain failed: {type(error).__name__}: {error}"]
    finally:
        clients.redis.flushdb()
        case.drop(connection)
        delete_ledger_rows(connection)


def main(
    seed: Annotated[str | None, typer.Option(help="Random by default.")] = None,
    cases: Annotated[int, typer.Option(min=1, help="Entries, over all tables.")] = 20_000,
    first: Annotated[int, typer.Option(help="Number of the first table, to repeat one.")] = 0,
    engine: Annotated[
        str | None, typer.Option(help="The first that can run, if not given; plain: no TimescaleDB.")
    ] = None,
) -> None:
    """Drain random entries into random tables. Exit code 1 if anything differs from the oracle."""
    chosen = seed or str(random_module.randrange(1 << 32))
    began = time.monotonic()
    with (
        throwaway_servers("any-table", engine, PlainEngine if engine == "plain" else None) as (config, _),
        Clients(config) as clients,
        psycopg.connect(config.database, autocommit=True) as connection,
    ):
        report = run_campaign(clients, connection, chosen, cases, first, verbose=True)
    counts = ", ".join(f"{fate.value} {report.fates[fate]:,}" for fate in Fate)
    typer.echo(
        f"seed {chosen}: {report.cases:,} cases ({counts}), {len(report.failures)} tables with differences,"
        f" {time.monotonic() - began:.0f} s"
    )
    raise typer.Exit(1 if report.failures else 0)


if __name__ == "__main__":
    typer.run(main)
