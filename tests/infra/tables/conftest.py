"""A place for tables of all kinds."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest


@pytest.fixture
def shop(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """An empty schema `shop`, whose name is not in the search_path."""
    database.execute("CREATE SCHEMA shop")
    try:
        yield database
    finally:
        database.execute("RESET ROLE; SET client_min_messages = warning; DROP SCHEMA shop CASCADE")
