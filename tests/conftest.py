"""Real servers for every test: started once a session, emptied before each test that asks for them.

Which TimescaleDB: `SPILLWAY_TEST_ENGINE` (docker, system or debian; the first that can work if unset), or servers that
run already: `SPILLWAY_TEST_REDIS_URL` and `SPILLWAY_TEST_DATABASE_URL` (they are emptied!).
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.environment import prefect_defaults
from infra.schema import apply_schema
from infra.servers.engine import Engine
from infra.servers.ports import free_port
from infra.servers.throwaway import throwaway_servers
from infra.settings import PROJECT_ROOT, Settings, settings

# Before Prefect is imported anywhere: it reads its environment once.
_PREFECT_PORT = free_port()
_HOME = tempfile.TemporaryDirectory(prefix="spillway-test-")
os.environ |= {
    **prefect_defaults(),
    "PREFECT_HOME": _HOME.name,
    "PREFECT_API_URL": f"http://127.0.0.1:{_PREFECT_PORT}/api",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # s for a lock of its SQLite; what takes longer ends as a 503
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}
for _name in [name for name in os.environ if name.startswith("SPILLWAY_") and not name.startswith("SPILLWAY_TEST_")]:
    del os.environ[_name]  # the developer's own servers are none of the tests' business

DATA = PROJECT_ROOT.parent / "shared" / "data" / "crossref"
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Servers:
    """The servers of this session. `engine` is None where they were given by URL and cannot be stopped here."""

    settings: Settings
    engine: Engine | None
    edition: str
    version: str


_used: list[str] = []  # said at the end of the run


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Redis and TimescaleDB with the schema applied."""
    urls = [os.environ.get(f"SPILLWAY_TEST_{name}_URL", "") for name in ("REDIS", "DATABASE")]
    if all(urls):
        config = Settings(redis_url=urls[0], database_url=urls[1], _env_file=None)
        apply_schema(config.database)
        yield _look(config, None)
        return
    with throwaway_servers("test", os.environ.get("SPILLWAY_TEST_ENGINE")) as (config, engine):
        _trust_the_machine(config)
        yield _look(config, engine)


def _trust_the_machine(config: Settings) -> None:
    """No waiting for the disk: what these servers have written survives the kill of a server, and no machine crashes
    here. A commit takes a tenth of the time."""
    with psycopg.connect(config.database, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def _look(config: Settings, engine: Engine | None) -> Servers:
    with psycopg.connect(config.database) as connection:
        row = connection.execute(
            "SELECT current_setting('timescaledb.license'), extversion FROM pg_extension WHERE extname = 'timescaledb'"
        ).fetchone()
    assert row is not None
    found = Servers(config, engine, {"timescale": "Community", "apache": "Apache"}[row[0]], row[1])
    _used.append(f"{engine.name if engine else 'given by URL'}; TimescaleDB {found.version} {found.edition}")
    return found


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist, whose terminal nobody sees
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
    """Set settings for one test: `configure(batch_rows=100)`."""

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
    for forked in multiprocessing.active_children():  # of a test that has failed half-way
        forked.kill()
        forked.join()


@pytest.fixture
def community(servers: Servers) -> None:
    """For the tests with the marker `community`: skipped on another edition."""
    if servers.edition != "Community":
        pytest.skip(f"compression and policies need TimescaleDB Community, this is {servers.edition}")


# As schema.sql leaves it: no policies, and no columnstore, which can only go where no chunk is in it.
_PLAIN = """
    DO $$ BEGIN
        IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE compression_enabled)
           OR EXISTS (SELECT FROM timescaledb_information.jobs WHERE hypertable_name = 'events') THEN
            PERFORM delete_job(job_id) FROM timescaledb_information.jobs WHERE hypertable_name = 'events';
            ALTER TABLE events SET (timescaledb.compress = false);
        END IF;
    END $$"""


def _empty_tables(servers: Servers) -> None:
    with psycopg.connect(servers.settings.database, autocommit=True) as connection:
        connection.execute("SET statement_timeout = '30s'")
        if connection.execute("SELECT EXISTS (SELECT FROM show_chunks('events'))").fetchone() == (True,):
            connection.execute("TRUNCATE events")
        # Not by TRUNCATE, which takes 60 ms for these instead of 2.
        for table in ("ledger", "quarantine", "files", "streams", "drops"):
            connection.execute(f"DELETE FROM spillway.{table}")
        connection.execute(_PLAIN)


@pytest.fixture
def stream() -> str:
    """A stream name of this test's own."""
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """A Prefect server; returns its API's URL, which this process and its children use anyway.

    Flows that run in this process send no heartbeat: at the end of a run Prefect waits until the thread that sends
    them has slept its second out. Those of workers, of `serve` and of processes of their own do.
    """
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    with running_prefect() as url, temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield url


@contextmanager
def running_prefect() -> Iterator[str]:
    """A Prefect server, for pytest and for what runs without it."""
    url = os.environ["PREFECT_API_URL"]
    log = Path(_HOME.name) / "server.log"
    with log.open("wb") as output:
        command = [str(BIN / "prefect"), "server", "start", "--port", str(_PREFECT_PORT)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=60)


@pytest.fixture
def sample() -> Path:
    """2,737 real events of which 2,654 differ; see ../shared/data/README.md."""
    return real_events("test_sample.ndjson")


def real_events(name: str) -> Path:
    """A file of real events; the test is skipped where it is not there."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real events are not here: {path}")
    return path


def deploy(environment: Mapping[str, str]) -> None:
    """Register the deployments of prefect.yaml, with their schedules paused: tests say when something runs."""
    for command in (
        "work-pool create spillway --type process --overwrite",
        "deploy --all",
        "deployment schedule pause --all",
    ):
        done = subprocess.run(
            [BIN / "prefect", *command.split()],
            env=environment,
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def worker(servers: Servers, prefect_server: str) -> Iterator[str]:
    """The deployments of prefect.yaml and a worker that runs them; returns the name of the scheduled drain."""
    with running_worker(servers.settings) as name:
        yield name


@contextmanager
def running_worker(config: Settings) -> Iterator[str]:
    """The same, where there is no pytest."""
    environment = os.environ | {
        "SPILLWAY_REDIS_URL": config.redis,
        "SPILLWAY_DATABASE_URL": config.database,
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }

    deploy(environment)
    log = Path(_HOME.name) / "worker.log"
    with log.open("wb") as output:
        command = [str(BIN / "prefect"), "worker", "start", "--pool", "spillway"]
        process = subprocess.Popen(command, env=environment, cwd=PROJECT_ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield "drain/scheduled"
    finally:
        process.terminate()
        process.wait(timeout=60)
