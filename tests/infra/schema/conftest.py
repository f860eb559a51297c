"""A database with nothing in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from tests.support.servers import Servers


@pytest.fixture
def empty_database(servers: Servers) -> Iterator[str]:
    """The URL of a database of this test's own, with nothing in it."""
    name = f"schema_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield urlunsplit(urlsplit(servers.settings.database)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
