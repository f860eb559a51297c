"""A recovery drill:  python -m tests.faults.recovery_drill

Two streams are drained and trimmed while a base backup is made and WAL is archived. The database is destroyed and
restored to a moment in the middle of a drain, next to a Redis that has moved on. What the table holds is compared with
what was sent, without Spillway's code. Then the database moves to another server by pg_dump and pg_restore.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import redis
import typer

import tests.environment  # noqa: F401
from infra.connections.group_name import group_name
from infra.schema.migrate import apply_schema
from infra.servers.engine import Engine
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings
from tests.support.drill import (
    BATCH_ROWS,
    KEEP,
    ROLES,
    Drill,
    await_read,
    check,
    check_roles,
    create_roles,
    finished,
    ledger_ids,
    read_so_far,
)
from tests.support.oracle import ledger_is_whole, table_rows
from tests.support.physical_postgres import PhysicalPostgres, physical_servers
from tests.support.waiting import wait_until

_OLD_MS = 3 * 3_600_000  # older than both keep: these entries are trimmed as soon as they are drained


def archived(database: PhysicalPostgres, archive: str) -> None:
    """Close the current WAL file, and wait until it is in the archive."""
    with database.connect() as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn()), pg_switch_wal()").fetchone()
    assert row is not None
    file = database.host.outside(database.folder(archive)) / row[0]
    wait_until(file.exists, shown=lambda: database.failure_line(0))


def run_drill(drill: Drill) -> PhysicalPostgres:
    """Back up, destroy, restore to a moment and drain again. Returns the restored server."""
    primary = drill.servers.new("primary", archive_mode="on")
    archive = primary.folder("archive")
    primary.settings = {**primary.settings, "archive_command": f"cp %p {archive}/%f"}
    primary.up()
    apply_schema(primary.url)
    create_roles(primary)
    drill.send(drill.events, age_ms=_OLD_MS)
    drill.drained(primary)
    _compress(primary)
    gone = {name: len(one.entries) - drill.client.xlen(name) for name, one in drill.produced.items()}
    drill.report(f"{drill.sent:,} entries sent and drained; trimmed: {gone}")

    before = read_so_far(primary)
    drill.send(2 * drill.events)
    drains = drill.drains(primary)
    await_read(primary, before + BATCH_ROWS)
    restored = drill.servers.new("restored")
    restored.copy_of(primary)
    at_backup = read_so_far(primary)
    finished(drains)
    drill.report(f"a base backup was made while drains went from {before:,} to {at_backup:,} entries")

    before = read_so_far(primary)
    drill.send(drill.events)
    drains = drill.drains(primary)
    await_read(primary, before + BATCH_ROWS)
    with primary.connect() as connection:
        row = connection.execute("SELECT clock_timestamp()::text").fetchone()
    assert row is not None
    moment = str(row[0])
    finished(drains)
    drill.send(drill.events)
    drill.drained(primary)
    archived(primary, "archive")
    primary.stop("kill")
    shutil.rmtree(primary.host.outside(primary.data))
    drill.report(f"{drill.sent:,} entries were sent and drained; then the database was destroyed")

    restored.settings = {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_time": moment,
        "recovery_target_action": "promote",
    }
    restored.write("recovery.signal", "")
    restored.up()
    restored.promoted()
    _judge_restored(drill, restored, moment)
    return restored


def _judge_restored(drill: Drill, restored: PhysicalPostgres, moment: str) -> None:
    with restored.connect() as connection:
        known = {stream: ledger_ids(connection, stream) for stream in KEEP}
    rows = check(drill, restored, known)
    check_roles(restored)
    back = {name: sum(not known[name](number) for number in one.entries) for name, one in drill.produced.items()}
    assert all(back.values())
    drill.report(f"restored to {moment}: the table has exactly the {rows:,} rows of the entries that the ledger has")
    drill.report(f"the ledger went back by {back} entries")

    drill.send(drill.events // 2)  # producers do not wait
    there = {stream: drill.present(stream) for stream in KEEP}
    lost = {
        name: sum(not known[name](number) and number not in there[name] for number in one.entries)
        for name, one in drill.produced.items()
    }
    results = drill.drained(restored)
    assert {stream: result["lost"] for stream, result in results.items()} == lost
    assert (lost["drill-kept"], lost["drill-trimmed"] > 0) == (0, True), lost
    assert "error" not in results["drill-kept"], results
    assert "were trimmed or deleted in Redis before they were drained" in results["drill-trimmed"]["error"]
    reachable = {
        name: lambda number, name=name: known[name](number) or number in there[name]  # type: ignore[misc]
        for name in KEEP
    }
    rows = check(drill, restored, reachable)
    with restored.connect() as connection:
        assert all(ledger_is_whole(connection, stream) for stream in KEEP)
    kept, trimmed = KEEP.values()
    drill.report(
        f"drained again: SPILLWAY_TRIM_KEEP={kept} lost nothing; {trimmed} lost {lost['drill-trimmed']:,} entries,"
    )
    drill.report(f"and the drain reported exactly these; the table has each of the other {rows:,} rows once")
    again = drill.drained(restored)
    assert all((one["read"], one["lost"]) == (0, 0) for one in again.values()), again


def run_move(drill: Drill, source: PhysicalPostgres) -> None:
    """Move the database to another server by pg_dump and pg_restore, and go on there."""
    moved = drill.servers.new("moved")
    moved.up()
    folder = source.folder("dump")
    roles, file = f"{folder}/roles.sql", f"{folder}/analytics.dump"
    source.program("pg_dumpall", "--roles-only", f"--file={roles}", f"--dbname={source.url}")
    source.program("pg_dump", "--format=custom", f"--file={file}", f"--dbname={source.url}")
    with source.connect() as old:
        old_group, before = group_name(old), table_rows(old)
        has_timescaledb = old.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    moved.program("psql", "--quiet", f"--dbname={moved.url}", f"--file={roles}")  # one exists: the superuser
    _restore(moved, file, has_timescaledb is not None)
    check_roles(moved)
    source.stop("fast")
    with moved.connect() as connection:
        assert table_rows(connection) == before
        assert group_name(connection) != old_group
    drill.report(f"moved by pg_dump and pg_restore: {len(before):,} rows, and {len(ROLES)} roles with their rights")

    known = {name: set(one.entries) for name, one in drill.produced.items()}
    drill.send(drill.events)
    assert trimmed(drill.drained(moved)) == 0, "the group of the old database holds what it has not drained"
    for name in KEEP:
        assert old_group in {one["name"].decode() for one in drill.client.xinfo_groups(name)}
        drill.client.xgroup_destroy(name, old_group)
    drill.send(10)
    assert trimmed(drill.drained(moved)) > 0
    expected = dict(before)
    for name, one in drill.produced.items():
        expected |= one.rows(lambda number, name=name: number not in known[name])  # type: ignore[misc]
    with moved.connect() as connection:
        assert table_rows(connection) == expected
        assert all(ledger_is_whole(connection, name) for name in KEEP)
    drill.report("drains went on there; trimming waited until the group of the old database was destroyed")


def _restore(database: PhysicalPostgres, file: str, has_timescaledb: bool) -> None:
    """As TimescaleDB's documentation says."""
    if has_timescaledb:
        with database.connect() as connection:
            connection.execute("CREATE EXTENSION timescaledb")
            connection.execute("SELECT timescaledb_pre_restore()")
    database.program("pg_restore", f"--dbname={database.url}", "--exit-on-error", file)
    if has_timescaledb:
        with database.connect() as connection:
            connection.execute("SELECT timescaledb_post_restore()")


def trimmed(results: Mapping[str, Mapping[str, Any]]) -> int:
    """What was trimmed of the stream whose entries are not kept."""
    (stream,) = results["drill-trimmed"]["streams"]
    return int(stream["trimmed"])


def _compress(database: PhysicalPostgres) -> None:
    """Compress what is there, where that is possible: late entries go into compressed chunks."""
    with database.connect() as connection:
        row = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
        if row == ("timescale",):
            connection.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('events') AS c")


def run(engine: Engine | None, config: Settings, events: int, report: Callable[[str], None]) -> None:
    """The whole drill. Raises `AssertionError` for anything that is not as it must be."""
    with physical_servers(engine) as servers, redis.Redis.from_url(config.redis) as client:
        drill = Drill(servers, client, config.redis, events, report=report)
        client.delete(*KEEP)
        run_move(drill, run_drill(drill))
        client.delete(*KEEP)


def main(
    events: Annotated[int, typer.Option(help="Entries of a step, for each stream.")] = 20_000,
    engine: Annotated[str | None, typer.Option(help="system or debian.")] = None,
) -> None:
    """Back up, destroy, restore and compare, on servers that exist only for this."""
    with throwaway_servers("drill", engine) as (config, found):
        run(found, config, events, print)
    print("the drill has succeeded")


if __name__ == "__main__":
    typer.run(main)
