"""Hypertables of a user in the schema `users`: other names, other types of time, with and without a key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from infra.settings import settings
from infra.tables.read_table import read_table
from infra.tables.table import Table
from tasks.maintain.maintained_table import MaintainedTable, maintained_table

START = datetime(2024, 1, 4, tzinfo=UTC)  # a chunk of seven days begins here
TIMES = ("timestamptz", "timestamp", "date")
NAME = 'users."We%ather ""x"" {y}"'


def make_table(connection: psycopg.Connection[Any], time: str, *, key: bool = True, name: str = NAME) -> Table:
    """A hypertable of chunks of seven days, with awkward names and a time of this type."""
    unique = ', PRIMARY KEY ("at %s", "Ort")' if key else ""
    connection.execute(
        f'CREATE TABLE {name} ("Ort" text NOT NULL, n int4, "at %s" {time} NOT NULL, temp float8 DEFAULT 1.5{unique})'
    )
    connection.execute(f"SELECT create_hypertable('{name}', by_range('at %s', interval '7 days'))")
    return read_table(connection, name)


def fill(connection: psycopg.Connection[Any], table: Table, numbers: Sequence[int]) -> None:
    """One row for each number, four a day from `START` on; the time of number n is n quarters of a day later."""
    with connection.cursor().copy(f"COPY {table.regclass} FROM STDIN") as copy:
        for n in numbers:
            copy.write_row((f"ort {n} é", n, (START + timedelta(hours=6 * n)).replace(tzinfo=None), n / 7))


def add_row(connection: psycopg.Connection[Any], table: Table, n: int, moment: datetime = START) -> None:
    """A row that no other has the key of."""
    with connection.cursor().copy(f"COPY {table.regclass} FROM STDIN") as copy:
        copy.write_row((f"late {n}", n, moment.replace(tzinfo=None), None))


def delete_row(connection: psycopg.Connection[Any], table: Table, n: int) -> None:
    """Delete the rows of a number."""
    assert connection.execute(f"DELETE FROM {table.regclass} WHERE n = {n}".encode()).rowcount


def maintained(connection: psycopg.Connection[Any], name: str = NAME) -> MaintainedTable:
    return maintained_table(settings(), read_table(connection, name))


def dump(connection: psycopg.Connection[Any], table: Table) -> list[bytes]:
    """Every row as the server writes it, in the order of these texts."""
    connection.execute("SET TimeZone = 'UTC'; SET extra_float_digits = 1")
    with connection.cursor().copy(f"COPY (SELECT * FROM {table.regclass}) TO STDOUT") as copy:
        return sorted(bytes(line) for line in copy)
