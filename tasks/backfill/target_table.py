"""The table that a backfill loads into."""

from __future__ import annotations

from infra.connections.clients import Clients
from infra.tables.read_table import default_table_name, read_table
from infra.tables.table import Table
from tasks.base.step import step


@step("read the table")
def find_table(clients: Clients, name: str | None) -> Table:
    """The table `name`; None for `events`. Raises `Terminal` if there is no such table."""
    with clients.translate_errors("read the table"), clients.postgres() as connection:
        return read_table(connection, name or default_table_name())
