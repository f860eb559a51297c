"""Tables of a user, in the schema `users`, and the mapping file that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.settings import Settings
from tests.support.servers import Servers

MakeTable = Callable[[str, str], None]


@pytest.fixture
def users(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection to a database with an empty schema `users`."""
    database.execute("DROP SCHEMA IF EXISTS users CASCADE; CREATE SCHEMA users; SET client_min_messages = error")
    yield database
    database.execute("DROP SCHEMA users CASCADE")


@pytest.fixture
def create(users: psycopg.Connection, servers: Servers) -> Callable[[str], None]:
    """Execute statements that make tables of the schema `users`: plain ones on a server without TimescaleDB."""

    def run(statements: str) -> None:
        tables = [one for one in statements.split(";") if servers.edition or "create_hypertable" not in one]
        users.execute(";".join(tables).encode())

    return run


@pytest.fixture
def mapped(configure: Callable[..., Settings], tmp_path: Path) -> Callable[[str], None]:
    """Write spillway.toml. Rows of any age are loaded."""

    def write(text: str) -> None:
        path = tmp_path / "spillway.toml"
        path.write_text(text)
        configure(mappings=path, max_age_days=36_500, batch_rows=10_000)

    return write
