"""The steps that check both servers before anything is read."""

from __future__ import annotations

from datetime import timedelta

import psycopg

from infra.connections.clients import Clients
from infra.mapping.stream_mapping import StreamMappings
from infra.schema.schema_version import check_schema
from infra.settings import Settings
from infra.urls import read_redis_url
from tasks.base.step import step
from tasks.ledger.register_stream import TABLES_OF_ROUTES, TABLES_OF_STREAMS
from tasks.preflight.clocks import compare_clocks, database_clock
from tasks.preflight.found_streams import FoundStreams
from tasks.preflight.layouts import tables_of
from tasks.preflight.rights import check_rights
from tasks.preflight.server_versions import check_servers
from tasks.streams.find import find_streams

# Most sites make backups once a day. With WAL archiving less can be lost; the warning is then only a reminder.
_LEAST_TRIM_KEEP = timedelta(days=1)
# Without its columns, the schema is of an earlier release, which another check reports.
_CAN_READ = """
    SELECT bool_and(has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
      JOIN pg_attribute AS a ON a.attrelid = c.oid
     WHERE n.nspname = 'spillway' AND c.relname = %s AND a.attname = %s"""


@step("preflight", retries=2)
def preflight(
    clients: Clients,
    wanted: list[str],
    needs_redis: bool = True,
    command: str = "drain",
    mappings: StreamMappings | None = None,
) -> tuple[list[str], list[str]]:
    """The streams that match `wanted`, and warnings about the servers. Retried only twice, since no work has begun.

    `needs_redis`: whether the run uses Redis; if not, it is not contacted. `command`: the command whose rights are
    checked, a key of `tasks.preflight.rights.NEEDS`. `mappings`: name the tables of the streams, on which it
    needs rights too. Raises `Terminal` and `Transient`.
    """
    with clients.translate_errors("preflight"):
        client = clients.redis if needs_redis else None
        if needs_redis:
            clients.check_replica()
        with clients.postgres() as connection:
            age = clients.settings.scan_every if command == "drain" else None
            found = FoundStreams(client, connection, _server(clients.settings), age) if client is not None else None
            streams, warnings = find_streams(client, wanted, found.names) if client and found else ([], [])
            different = {id(mapping): mapping for mapping in map(mappings.for_stream, streams)} if mappings else {}
            tables = [name for mapping in different.values() for name in tables_of(mapping)]
            check_rights(connection, command, tables)  # first, since the other checks read the schemas
            warnings += check_servers(client, connection)
            warnings += _trim_warnings(clients.settings.trim_keep) if needs_redis else []
            if found is not None:
                found.save()
            return streams, warnings


@step("preflight", retries=2)
def preflight_clocks(clients: Clients) -> list[str]:
    """Warnings about the clocks of this machine and of PostgreSQL, for runs that check nothing else.

    Raises `Terminal` if they differ too much.
    """
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        return compare_clocks(database_clock(connection))


@step("rights", retries=2)
def preflight_rights(clients: Clients, command: str) -> None:
    """Check the role's rights and the schema's version, for the flows that have no other preflight."""
    with clients.translate_errors("preflight"), clients.postgres() as connection:
        tables = None if command == "maintain" else _tables_of_streams(connection)
        check_rights(connection, command, tables)
        check_schema(connection)


def _tables_of_streams(connection: psycopg.Connection) -> list[str] | None:
    """The tables of the streams in the ledger, as far as the role may read them. None if there are none."""
    found: list[str] = []
    for table, column, query in (("streams", "table", TABLES_OF_STREAMS), ("ledger", "by_table", TABLES_OF_ROUTES)):
        if connection.execute(_CAN_READ, [table, column]).fetchone() == (True,):
            found += [name for (name,) in connection.execute(query)]
    return list(dict.fromkeys(found)) or None


def _server(config: Settings) -> str:
    url = read_redis_url(config.redis)
    return f"{url.where}/{url.options.get('db', 0)}"


def _trim_warnings(keep: timedelta | None) -> list[str]:
    if keep is None or keep >= _LEAST_TRIM_KEEP:
        return []
    return [
        f"SPILLWAY_TRIM_KEEP is {keep}, less than a day: a trimmed entry is in the database only; if that is restored"
        " from a backup, entries drained since the backup are lost; keep entries for longer than the database"
        " may lose (its recovery point), for example 7d: see «Trimming and backups» in docs/operations.md"
    ]
