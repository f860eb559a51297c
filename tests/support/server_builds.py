"""What a server was built without: such a test is skipped there, and says why."""

from __future__ import annotations

from typing import LiteralString

import psycopg
import pytest


def skip_without(connection: psycopg.Connection, feature: str, statement: LiteralString) -> None:
    """Skip the test if the server refuses the statement because it was built without the feature."""
    try:
        connection.execute(statement)
    except psycopg.errors.FeatureNotSupported:
        pytest.skip(f"this PostgreSQL was built without {feature}")
