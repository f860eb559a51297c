"""Real servers for the tests: started once a session, emptied before each test that uses them.

`SPILLWAY_TEST_ENGINE` chooses the TimescaleDB: docker, system or debian; by default the first that works here; `plain`
is the PostgreSQL of this machine without TimescaleDB. With `SPILLWAY_TEST_REDIS_URL` and `SPILLWAY_TEST_DATABASE_URL`
the tests use servers that already run, and EMPTY them.
"""

from __future__ import annotations

import multiprocessing
import os
import types
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import tests.environment  # noqa: F401
from infra.schema.migrate import apply_schema
from infra.servers.engine import Engine
from infra.servers.throwaway import throwaway_servers
from infra.settings import Settings, settings
from tests.support.deployments import without_deployments
from tests.support.plain_postgres import PlainEngine
from tests.support.prefect_server import running_prefect, running_worker
from tests.support.real_data import sample_events
from tests.support.servers import Servers
from tests.support.tables import delete_ledger_rows, users_relations
from tests.support.user_table import STREAM

# An example may take as long as a busy machine needs for it.
hypothesis_settings.register_profile("spillway", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("spillway")

_used: list[str] = []  # printed at the end of the run
_known: set[str] = set()  # tables and views that no test left behind


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Redis and TimescaleDB with the schema applied."""
    urls = [os.environ.get(f"SPILLWAY_TEST_{name}_URL", "") for name in ("REDIS", "DATABASE")]
    if all(urls):
        config = Settings(redis_url=urls[0], database_url=urls[1], _env_file=None)
        apply_schema(config.database)
        yield _look(config, None)
        return
    name = os.environ.get("SPILLWAY_TEST_ENGINE")
    make_engine = PlainEngine if name == PlainEngine.name else None
    with throwaway_servers("test", name, make_engine) as (config, engine):
        _trust_the_machine(config)
        yield _look(config, engine)


def _trust_the_machine(config: Settings) -> None:
    """Do not wait for the disk. What these servers have written survives the kill of a server, and the tests crash no
    machine. A commit takes a tenth of the time."""
    with psycopg.connect(config.database, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def _look(config: Settings, engine: Engine | None) -> Servers:
    with psycopg.connect(config.database) as connection:
        _known.update(users_relations(connection))
        row = connection.execute(
            "SELECT current_setting('timescaledb.license'), extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
    edition = {"timescale": "Community", "apache": "Apache"}[row[0]] if row is not None else ""
    found = Servers(config, engine, edition, row[1] if row is not None else "")
    version = f"TimescaleDB {found.version} {found.edition}" if row is not None else "PostgreSQL without TimescaleDB"
    _used.append(f"{engine.name if engine else 'given by URL'}; {version}")
    return found


# Every fixture that gives servers depends on one of these.
_SERVER_FIXTURES = {"servers", "prefect_server", "make_instance"}
_PROCESS_MODULES = {
    *("subprocess", "multiprocessing", "pexpect", "infra.servers.throwaway"),
    *(f"tests.support.{name}" for name in ("instances", "prefect_server", "processes", "redis_groups", "redis_server")),
}


def _starts_processes(module: types.ModuleType) -> bool:
    """Whether a test module imports a module that starts processes, or a name from one."""
    return any(
        (value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None))
        in _PROCESS_MODULES
        for value in vars(module).values()
    )


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark the tests that `make quick` leaves out."""
    starts_processes = cache(_starts_processes)
    for item in items:
        if _SERVER_FIXTURES & set(item.fixturenames) or starts_processes(item.module):
            item.add_marker("server")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist: its terminal output is discarded
        session.config.workeroutput["servers"] = _used


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _used.extend(getattr(node, "workeroutput", {}).get("servers", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for used in dict.fromkeys(_used):
        terminalreporter.write_line(f"servers: {used}")


@pytest.fixture
def env(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment in which Spillway finds the test servers, for this process and for those it starts."""
    monkeypatch.setenv("SPILLWAY_REDIS_URL", servers.settings.redis)
    monkeypatch.setenv("SPILLWAY_DATABASE_URL", servers.settings.database)
    settings.cache_clear()
    yield dict(os.environ)
    settings.cache_clear()


@pytest.fixture
def configure(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Change settings for one test: `configure(batch_rows=100)`."""

    def set_them(**values: object) -> Settings:
        for name, value in values.items():
            monkeypatch.setenv(f"SPILLWAY_{name.upper()}", str(value))
        settings.cache_clear()
        return settings()

    return set_them


@pytest.fixture
def redis_client(servers: Servers, env: dict[str, str]) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis.from_url(servers.settings.redis) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def database(servers: Servers, env: dict[str, str]) -> Iterator[psycopg.Connection]:
    """Empty tables. The connection does not outlive a restart of the server."""
    _empty_tables(servers)
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        yield connection
    for forked in multiprocessing.active_children():  # left behind by a test that failed
        forked.kill()
        forked.join()


# Tests put everything that a user adds into the schema `users`.
_RESTORE = (
    "DROP TABLE IF EXISTS events CASCADE; DROP VIEW IF EXISTS events CASCADE; DROP SCHEMA IF EXISTS users CASCADE"
)


@pytest.fixture
def alter(servers: Servers, database: psycopg.Connection) -> Iterator[Callable[[str], None]]:
    """Run SQL as a user who changes the table `events`. Afterwards the table is as schema.sql makes it."""

    def run(statements: str) -> None:
        database.execute(statements.encode())

    database.execute("CREATE SCHEMA users")
    database.execute("INSERT INTO spillway.streams (name, baseline) VALUES (%s, 0)", [STREAM])
    try:
        yield run
    finally:
        with psycopg.connect(servers.settings.database, autocommit=True) as connection:
            connection.execute("SET client_min_messages = error; SET statement_timeout = '240s'")
            try:
                connection.execute(_RESTORE)
            except psycopg.errors.WrongObjectType:
                connection.execute("DROP VIEW events CASCADE; DROP SCHEMA users CASCADE")
        apply_schema(servers.settings.database)


@pytest.fixture
def hypertables(servers: Servers) -> None:
    """For the tests with the marker `hypertables`: skipped on a server without TimescaleDB."""
    if not servers.edition:
        pytest.skip("hypertables need TimescaleDB")


@pytest.fixture
def community(servers: Servers) -> None:
    """For the tests with the marker `community`: skipped on another edition."""
    if servers.edition != "Community":
        pytest.skip(f"compression and policies need TimescaleDB Community, this is {servers.edition or 'PostgreSQL'}")


# As schema.sql leaves the table: no policies and no columnstore. A job that runs is ended before anything waits for its
# locks. The columnstore can be removed only if no chunk is compressed.
_NO_JOBS = "SELECT delete_job(job_id) FROM timescaledb_information.jobs WHERE hypertable_name = 'events'"
_PLAIN = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE compression_enabled) THEN
            ALTER TABLE events SET (timescaledb.compress = false);
        END IF;
    END $$"""


def _empty_tables(servers: Servers) -> None:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '240s'")
        left = set(users_relations(connection)) - _known
        _known.update(left)  # reported once
        assert not left, f"an earlier test of this session left {left} in the schema public, where other tests find it"
        if servers.edition:
            connection.execute(_NO_JOBS)
        filled = "SELECT FROM show_chunks('events')" if servers.edition else "SELECT FROM events"
        if connection.execute(f"SELECT EXISTS ({filled})".encode()).fetchone() == (True,):
            connection.execute("TRUNCATE events")
        delete_ledger_rows(connection)
        if servers.edition:
            connection.execute(_PLAIN)


@pytest.fixture
def stream() -> str:
    """The name of a stream that no other test uses."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A Prefect server. Returns the URL of its API, which this process and its children use anyway.

    Flows in this process send no heartbeats: at the end of a run, Prefect waits up to a second for the thread that
    sends them. Flows of workers, of `serve` and of child processes do send them.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with running_prefect() as url, temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield url


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 2,737 real events as NDJSON, 2,654 of them different: see tests/data/README.md."""
    path = tmp_path_factory.mktemp("real") / "crossref.ndjson"
    path.write_bytes(sample_events())
    return path


@pytest.fixture(scope="session")
def worker(servers: Servers, prefect_server: str) -> Iterator[str]:
    """The deployments and a worker that runs them; returns the name of the scheduled drain."""
    with running_worker(servers.settings) as name:
        yield name


@pytest.fixture
def nothing_deployed(prefect_server: str, env: dict[str, str]) -> Iterator[None]:
    """A Prefect server without deployments."""
    with without_deployments(env):
        yield
