"""The command line in this process, and a table with events of 60 days."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from flows.cli import main
from infra.producers.send import send
from infra.settings import settings
from tests.support.command_line import RunSpillway
from tests.support.old_events import old_events
from tests.support.oracle import Key, Row, flat_rows, table_rows
from tests.support.redis_groups import RunningCluster, WatchedRedis, running_cluster, watched_redis
from tests.support.servers import Servers


@pytest.fixture
def command_line(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> RunSpillway:
    """Run a command in this process. Returns its exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        settings.cache_clear()
        monkeypatch.setattr("sys.argv", ["spillway", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main.main()
        said = capfd.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run


@pytest.fixture
def spillway(prefect_server: str, command_line: RunSpillway) -> RunSpillway:
    """`command_line`, with a Prefect server."""
    return command_line


@pytest.fixture
def wide_chunks(servers: Servers, database: psycopg.Connection) -> Iterator[None]:
    """Chunks of a year, for tests about the content of the real sample.

    It spans 20 years. Creating and emptying 358 chunks of a week takes as long as everything else in such a test.
    """
    if not servers.edition:  # a plain table
        yield
        return
    row = database.execute(
        "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = 'events'"
    ).fetchone()
    assert row is not None
    database.execute("SELECT set_chunk_time_interval('events', INTERVAL '1 year')")
    yield
    database.execute("SELECT set_chunk_time_interval('events', %s::interval)", row)


@pytest.fixture
def drained(
    prefect_server: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> dict[Key, Row]:
    """Drain events of 60 days. Returns the rows that are in the table then."""
    from flows.drain import drain

    entries = old_events()
    send(redis_client, stream, entries)
    drain(stream)
    rows = flat_rows(entries)
    assert table_rows(database) == rows
    return rows


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RunningCluster]:
    """A Redis Cluster of three primaries and a replica of the first."""
    with running_cluster(tmp_path / "cluster") as found:
        yield found


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedRedis]:
    """A primary and its replica, watched by three Sentinels."""
    with watched_redis(tmp_path / "watched") as found:
        yield found
