"""A physical standby is promoted in the middle of a drain: what a commit promised stays, and the rest is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis

from flows.metrics_server import metrics_text
from infra.connections.clients import Clients
from infra.schema.migrate import apply_schema
from infra.servers.process import ProcessEngine
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER, Settings
from tasks.report.frames import read_frames
from tests.support.drill import BATCH_ROWS, KEEP, Drill, check, finished, ledger_ids, read_so_far
from tests.support.oracle import ledger_is_whole
from tests.support.pause_points import Point
from tests.support.physical_postgres import PhysicalPostgres, physical_servers
from tests.support.processes import Drain
from tests.support.servers import Servers

EVENTS = 4_000
DELAYS = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
MIDDLE = Point("in copy", 5)
ONE = {"SPILLWAY_PARALLEL_LOADS": "1", "SPILLWAY_RETRIES": "7"}
EVERYTHING: dict[str, Callable[[int], bool]] = {name: lambda _: True for name in KEEP}


@pytest.fixture
def drill(servers: Servers, redis_client: redis.Redis) -> Iterator[Drill]:
    if not isinstance(servers.engine, ProcessEngine):
        pytest.skip("a standby copies the files of servers that are processes of this machine")
    with physical_servers(servers.engine) as physical:
        yield Drill(physical, redis_client, servers.settings.redis, EVENTS)


@pytest.fixture
def pair(drill: Drill) -> tuple[PhysicalPostgres, PhysicalPostgres]:
    """A primary with the schema, and its standby, which has everything."""
    primary, standby = drill.servers.new("primary"), drill.servers.new("standby")
    primary.up()
    apply_schema(primary.url)
    standby.copy_of(primary, "--write-recovery-conf")
    standby.up()
    primary.wait_for("SELECT count(*) = 1 FROM pg_stat_replication WHERE state = 'streaming'")
    return primary, standby


def either(*servers: PhysicalPostgres) -> str:
    """The URL of the one that accepts writes."""
    hosts = ",".join(f"127.0.0.1:{one.number}" for one in servers)
    return f"postgresql://{DATABASE_USER}:{DATABASE_PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=read-write"


def promote(standby: PhysicalPostgres) -> None:
    """Let it accept writes."""
    with standby.connect() as connection:
        connection.execute("SELECT pg_promote()")
    standby.promoted()


def stopped(drains: list[Drain]) -> list[Drain]:
    """The drains. Each has stopped in the middle of a range."""
    assert all(one.reached() for one in drains)
    return drains


def go_on(drains: list[Drain]) -> list[Drain]:
    for one in drains:
        one.go_on()
    return drains


def test_with_synchronous_replication_a_drain_goes_on_and_nothing_goes_back(
    drill: Drill, pair: tuple[PhysicalPostgres, PhysicalPostgres]
) -> None:
    primary, standby = pair
    with primary.connect() as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
    primary.wait_for("SELECT sync_state IN ('sync', 'quorum') FROM pg_stat_replication")
    drill.send(EVENTS)
    for url in (standby.url, either(standby)):  # no server accepts writes
        for result in finished(drill.drains(standby, SPILLWAY_DATABASE_URL=url)).values():
            assert "wait for the primary or point SPILLWAY_DATABASE_URL at it" in result["error"]
    config = Settings(database_url=standby.url, redis_url=drill.redis_url, _env_file=None)  # type: ignore[arg-type]
    assert metrics_text(config)[1] == {}, "what only reads works on a standby"
    with Clients(config, "report") as clients:
        attention = read_frames(clients, timedelta(days=1)).attention
        assert [item for item in attention if "needs the Community edition" not in item] == []
    drains = stopped(drill.drains(primary, DELAYS, MIDDLE, SPILLWAY_DATABASE_URL=either(standby, primary), **ONE))
    assert read_so_far(primary) >= 5 * BATCH_ROWS
    with primary.connect() as connection:
        promised = {name: ledger_ids(connection, name) for name in KEEP}
    primary.stop("kill")
    promote(standby)
    with standby.connect() as connection:
        kept = {name: ledger_ids(connection, name) for name in KEEP}
    for name, one in drill.produced.items():
        assert all(kept[name](number) for number in one.entries if promised[name](number))
    results = finished(go_on(drains))
    assert any(result["retries"] for result in results.values()), "the kill hit the drains"
    for result in results.values():
        assert "error" not in result, result
        assert (result["read"], result["lost"], result["lag"]) == (EVENTS, 0, 0)
    check(drill, standby, EVERYTHING)
    with standby.connect() as connection:
        assert all(ledger_is_whole(connection, name) for name in KEEP)


def test_with_asynchronous_replication_rows_and_ledger_go_back_together_and_redis_still_has_what_was_kept(
    drill: Drill, pair: tuple[PhysicalPostgres, PhysicalPostgres]
) -> None:
    primary, standby = pair
    url = either(primary, standby)
    drill.send(500)
    drill.drained(primary)
    primary.wait_for("SELECT bool_and(replay_lsn = pg_current_wal_lsn()) FROM pg_stat_replication")
    with standby.connect() as connection:  # from now on it gets nothing
        connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
        connection.execute("SELECT pg_reload_conf()")
    primary.wait_for("SELECT count(*) = 0 FROM pg_stat_replication")
    drill.send(EVENTS)
    drill.drained(primary)  # the one stream is trimmed
    drill.send(EVENTS)
    before = read_so_far(primary)
    drains = stopped(drill.drains(primary, DELAYS, MIDDLE, SPILLWAY_DATABASE_URL=url, **ONE))
    assert read_so_far(primary) >= before + 5 * BATCH_ROWS
    primary.stop("kill")
    there = {name: drill.present(name) for name in KEEP}  # without a database nothing is trimmed
    promote(standby)
    with standby.connect() as connection:
        known = {name: ledger_ids(connection, name) for name in KEEP}
    gone = {
        name: sum(not known[name](number) and number not in there[name] for number in one.entries)
        for name, one in drill.produced.items()
    }
    assert (gone["drill-kept"], gone["drill-trimmed"] > 0) == (0, True)
    during = finished(go_on(drains))  # what it has loaded is gone back in part: the next drain sees that
    after = finished(drill.drains(primary, DELAYS, SPILLWAY_DATABASE_URL=url))
    assert {name: during[name]["lost"] + after[name]["lost"] for name in KEEP} == gone
    errors = [result["error"] for result in (during["drill-trimmed"], after["drill-trimmed"]) if "error" in result]
    assert any("were trimmed or deleted in Redis before they were drained" in error for error in errors), errors
    check(
        drill,
        standby,
        {name: lambda number, name=name: known[name](number) or number in there[name] for name in KEEP},  # type: ignore[misc]
    )
    with standby.connect() as connection:
        assert all(ledger_is_whole(connection, name) for name in KEEP)
