"""Streams with a known content that are drained, each with its own SPILLWAY_TRIM_KEEP, while the database is harmed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from infra.producers.send import send
from tasks.preflight.rights import check_rights
from tests.support.oracle import Key, Row, flat_rows, table_rows
from tests.support.pause_points import Point
from tests.support.physical_postgres import PhysicalPostgres, PhysicalServers
from tests.support.processes import Drain, Harness
from tests.support.programs import BIN
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

# The one keeps entries for longer than the recovery point, the other does not.
KEEP = {"drill-kept": "1h", "drill-trimmed": "0s"}
BATCH_ROWS = 100
Entry = Mapping[bytes, bytes]


@dataclass
class Produced:
    """What was sent to a stream: by the id of each entry as a number, the id of the ledger."""

    stream: str
    entries: dict[int, Entry] = field(default_factory=dict)

    def rows(self, only: Callable[[int], bool] = lambda _: True) -> dict[Key, Row]:
        """The rows of the good entries with these ids."""
        return flat_rows(entry for number, entry in self.entries.items() if entry[b"time"] != b"soon" and only(number))


@dataclass
class Drill:
    """The servers of the drill, and what was sent so far."""

    servers: PhysicalServers
    client: redis.Redis
    redis_url: str
    events: int
    produced: dict[str, Produced] = field(default_factory=lambda: {name: Produced(name) for name in KEEP})
    sent: int = 0
    report: Callable[[str], None] = print

    def send(self, events: int, age_ms: int = 0) -> None:
        """Send so many entries to each stream; one of 50 again, and one of 100 cannot be read."""
        for stream, produced in self.produced.items():
            numbers = range(self.sent, self.sent + events)
            entries = [event(n - (n % 50 == 49), **({"time": "soon"} if n % 100 == 98 else {})) for n in numbers]
            if age_ms:
                begin = time.time_ns() // 1_000_000 - age_ms
                with self.client.pipeline(transaction=False) as pipeline:
                    for at, entry in enumerate(entries):
                        pipeline.xadd(stream, entry, id=f"{begin + at}-0")  # type: ignore[arg-type]
                    pipeline.execute()
            else:
                send(self.client, stream, entries)
            # Nobody has trimmed these yet.
            last = max(produced.entries, default=-1)
            added = self.client.xrange(stream, min="-" if last < 0 else f"({last >> 64}-{last & (1 << 64) - 1}")
            assert len(added) == events
            produced.entries |= {_number(entry): fields for entry, fields in added}
            self.sent += events

    def drains(
        self,
        database: PhysicalPostgres,
        delays: list[float] | None = None,
        point: Point | None = None,
        **settings: str,
    ) -> list[Drain]:
        """Begin a drain of each stream. `delays`: seconds between attempts of a step. `point`: where each stops."""
        common = {"SPILLWAY_DATABASE_URL": database.url, "SPILLWAY_REDIS_URL": self.redis_url}
        common |= {"SPILLWAY_BATCH_ROWS": str(BATCH_ROWS), **settings}
        harness = Harness(point, flow="plain.drain", delays=delays or [0.1], log=Path(os.devnull))
        return [
            Drain(stream, os.environ | common | {"SPILLWAY_TRIM_KEEP": keep}, harness) for stream, keep in KEEP.items()
        ]

    def drained(self, database: PhysicalPostgres) -> dict[str, dict[str, Any]]:
        """Drain each stream to its end, and return the results."""
        return finished(self.drains(database))

    def present(self, stream: str) -> set[int]:
        """The ids that are in Redis now."""
        return {_number(entry) for entry, _ in self.client.xrange(stream)}


def _number(entry: bytes) -> int:
    ms, _, sequence = entry.partition(b"-")
    return int(ms) << 64 | int(sequence)


def finished(drains: list[Drain]) -> dict[str, dict[str, Any]]:
    return {stream: drain.finished() for stream, drain in zip(KEEP, drains, strict=True)}


def ledger_ids(connection: psycopg.Connection, stream: str) -> Callable[[int], bool]:
    """Whether the ledger has an id."""
    query = """
        SELECT lower(ids)::text, upper(ids)::text FROM spillway.ledger
         WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s)"""
    ranges = [(int(lower), int(upper)) for lower, upper in connection.execute(query, [stream])]
    return lambda number: any(lower <= number < upper for lower, upper in ranges)


def read_so_far(database: PhysicalPostgres) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT coalesce(sum(read), 0)::int FROM spillway.ledger").fetchone()
    assert row is not None
    return int(row[0])


def await_read(database: PhysicalPostgres, entries: int) -> None:
    """Wait until the ledger has so many entries: a drain is in the middle of its work."""
    wait_until(lambda: read_so_far(database) >= entries, every=0.02)


# The roles of docs/production/rights.md, and the commands that each may run.
ROLES = {"etl": ("drain", "quarantine redrive"), "watcher": ("metrics", "report", "status")}
_PASSWORD = "change-me"


def create_roles(database: PhysicalPostgres) -> None:
    """Create the roles as docs/production/rights.md does."""
    with database.connect() as connection:
        for role, commands in ROLES.items():
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'".encode())
            argv = [str(BIN / "spillway"), "grants", role, *(f"--for={command}" for command in commands)]
            variables = os.environ | {"SPILLWAY_DATABASE_URL": database.url}
            granted = subprocess.run(argv, env=variables, check=True, capture_output=True, text=True).stdout
            connection.execute(granted.encode())


def check_roles(database: PhysicalPostgres) -> None:
    """Each role can log in with its password, and has the rights of its commands."""
    for role, commands in ROLES.items():
        with psycopg.connect(database.url, user=role, password=_PASSWORD, autocommit=True) as connection:
            for command in commands:
                check_rights(connection, command)
    with database.connect() as connection:
        query = "SELECT count(*)::int FROM pg_authid WHERE rolname = ANY(%s) AND rolpassword IS NOT NULL"
        assert connection.execute(query, [list(ROLES)]).fetchone() == (len(ROLES),)


def check(drill: Drill, database: PhysicalPostgres, only: Mapping[str, Callable[[int], bool]]) -> int:
    """Compare the table with the entries of these ids, row by row. Returns the number of rows."""
    expected: dict[Key, Row] = {}
    for stream, produced in drill.produced.items():
        expected |= produced.rows(only[stream])
    with database.connect() as connection:
        assert table_rows(connection) == expected
    return len(expected)
