"""An upgrade drill:  python -m tests.faults.upgrade_drill OLD_BIN NEW_BIN

pg_upgrade from the PostgreSQL of one folder of programs to that of another, with a ledger in place, in the middle of a
stream; then ALTER EXTENSION timescaledb UPDATE, if both have the extension. What the table holds is compared with what
was sent, without Spillway's code. pg_upgrade needs the same version of the extension on both sides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import redis
import typer

import tests.environment  # noqa: F401
from infra.connections.group_name import group_name
from infra.schema.migrate import apply_schema
from infra.servers.throwaway import throwaway_servers
from infra.settings import DATABASE_USER
from tests.support.drill import KEEP, Drill, check
from tests.support.oracle import ledger_is_whole
from tests.support.physical_postgres import PhysicalPostgres, physical_servers


def run_upgrade(drill: Drill, old_bin: Path, new_bin: Path, extension: str | None) -> None:
    """Drain in the old one, upgrade, and drain on in the new one."""
    old, new = drill.servers.new("old"), drill.servers.new("new")
    old.bin_dir, new.bin_dir = old_bin, new_bin
    old.up()
    if extension:
        with old.connect() as connection:
            connection.execute(f"CREATE EXTENSION timescaledb VERSION '{extension}'".encode())
    apply_schema(old.url)
    drill.send(drill.events)
    drill.drained(old)
    with old.connect() as connection:
        group = group_name(connection)
    drill.report(f"{_versions(old)}: {drill.sent:,} entries sent and drained")
    old.stop("fast")

    new.create_files()
    folder = new.folder("upgrade")
    bins = (f"--old-bindir={old_bin}", f"--new-bindir={new_bin}")
    data = (f"--old-datadir={old.data}", f"--new-datadir={new.data}")
    new.program("pg_upgrade", *bins, *data, f"--username={DATABASE_USER}", f"--socketdir={folder}", folder=folder)
    new.up()
    with new.connect() as connection:
        assert group_name(connection) != group, "pg_upgrade gives the server another identity"
    _go_on(drill, new)
    for name in KEEP:
        drill.client.xgroup_destroy(name, group)
    drill.report(f"{_versions(new)}: drains went on; the old group, which held trimming back, was destroyed")

    before = _versions(new)
    with new.connect() as connection:
        if connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone() is None:
            return
    with new.connect() as connection:  # it has to be the first command of a session
        connection.execute("ALTER EXTENSION timescaledb UPDATE")
    _go_on(drill, new)
    drill.report(f"{before} became {_versions(new)}: drains went on")


def _go_on(drill: Drill, database: PhysicalPostgres) -> None:
    drill.send(drill.events)
    for result in drill.drained(database).values():
        assert ("error" in result, result["read"], result["lost"]) == (False, drill.events, 0), result
    rows = check(drill, database, {name: lambda _: True for name in KEEP})
    with database.connect() as connection:
        assert all(ledger_is_whole(connection, name) for name in KEEP)
    drill.report(f"the table has exactly the {rows:,} rows that were sent")


def _versions(database: PhysicalPostgres) -> str:
    with database.connect() as connection:
        query = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        extension = connection.execute(query).fetchone()
        server = connection.info.parameter_status("server_version")
    return f"PostgreSQL {server}" + (f", TimescaleDB {extension[0]}" if extension else "")


def main(
    old_bin: Path,
    new_bin: Path,
    events: Annotated[int, typer.Option(help="Entries of a step, for each stream.")] = 2_000,
    extension: Annotated[str | None, typer.Option(help="The version of TimescaleDB to begin with.")] = None,
) -> None:
    """Upgrade PostgreSQL and the extension, and compare, on servers that exist only for this."""
    with (
        throwaway_servers("upgrade", "system") as (config, engine),
        physical_servers(engine) as servers,
        redis.Redis.from_url(config.redis) as client,
    ):
        run_upgrade(Drill(servers, client, config.redis, events), old_bin, new_bin, extension)
    print("the upgrade has succeeded")


if __name__ == "__main__":
    typer.run(main)
