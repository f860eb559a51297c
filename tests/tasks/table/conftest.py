"""The table `events` as a user has changed it; after each test it is made again as schema.sql makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from infra.schema import apply_schema
from tests.conftest import Servers
from tests.support.own_table import STREAM

# What users add lies in a schema of their own, found by its name alone.
_RESTORE = (
    "DROP TABLE IF EXISTS events CASCADE; DROP VIEW IF EXISTS events CASCADE; DROP SCHEMA IF EXISTS users CASCADE"
)


@pytest.fixture
def alter(servers: Servers, database: psycopg.Connection) -> Iterator[Callable[[str], None]]:
    """Run SQL of a user's."""

    def run(statements: str) -> None:
        database.execute(statements.encode())

    database.execute("CREATE SCHEMA users")
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [STREAM])
    try:
        yield run
    finally:
        with psycopg.connect(servers.settings.database, autocommit=True) as connection:
            connection.execute("SET client_min_messages = error; SET statement_timeout = '30s'")
            try:
                connection.execute(_RESTORE)
            except psycopg.errors.WrongObjectType:
                connection.execute("DROP VIEW events CASCADE; DROP SCHEMA users CASCADE")
        apply_schema(servers.settings.database)
