"""The step that looks at both servers before anything is read. Each module here checks one thing."""

from __future__ import annotations

from datetime import timedelta

from infra.connections.clients import Clients
from infra.schema.schema_version import check_schema
from tasks.base.step import step
from tasks.preflight.clocks import compare_clocks, database_clock
from tasks.preflight.events_table import check_table
from tasks.preflight.rights import check_rights
from tasks.preflight.server_versions import check_servers
from tasks.streams.tail import find_streams

# Backups are daily at most sites; whoever archives the WAL loses less, and may read the warning as the reminder it is.
_LEAST_TRIM_KEEP = timedelta(days=1)


@step("preflight", retries=2)
def preflight(
    clients: Clients, wanted: list[str], needs_redis: bool = True, command: str = "drain"
) -> tuple[list[str], list[str]]:
    """The streams that `wanted` stands for, and warnings about the servers. Retried little: nothing has begun.

    `needs_redis`: whether the run uses Redis. If not, no connection to it is made. `command`: whose rights are needed,
    a key of `tasks.preflight.rights.NEEDS`.
    """
    with clients.translate_errors("preflight"):
        client = clients.redis if needs_redis else None
        streams, warnings = find_streams(client, wanted) if client is not None else ([], [])
        with clients.postgres() as connection:
            check_rights(connection, command)  # first: the other checks look into the schemas
            warnings += check_servers(client, connection)
            warnings += _trim_warnings(clients.settings.trim_keep) if needs_redis else []
            check_table(connection)
            return streams, warnings


@step("preflight", retries=2)
def preflight_clocks(clients: Clients) -> list[str]:
    """Warnings about the clocks of this machine and of PostgreSQL, for runs that need nothing else checked.

    Raises `Terminal` if they differ too much.
    """
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        return compare_clocks(database_clock(connection))


@step("rights", retries=2)
def preflight_rights(clients: Clients, command: str) -> None:
    """Check the role's rights and the schema's version, for the flows that have no other preflight."""
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        check_rights(connection, command)
        check_schema(connection)


def _trim_warnings(keep: timedelta | None) -> list[str]:
    if keep is None or keep >= _LEAST_TRIM_KEEP:
        return []
    return [
        f"SPILLWAY_TRIM_KEEP is {keep}, less than a day: a trimmed entry is in the database only, so if it is restored"
        " from a backup, what was drained since the backup is gone for good; keep entries for longer than the database"
        " can lose (its recovery point), such as 7d: see «Trimming and backups» in docs/operations.md"
    ]
