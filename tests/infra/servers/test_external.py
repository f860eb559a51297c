"""Servers that are set by URL and run elsewhere."""

from __future__ import annotations

import psycopg
import pytest
import redis
from pydantic import SecretStr

from infra.errors.exceptions import Terminal
from infra.schema.migrate import apply_schema
from infra.servers.external import ExternalEngine, libpq_variables
from infra.urls import read_redis_url
from tests.support.instances import Instance
from tests.support.ports import free_port

SECRET = "s3cret-word"


def urls(some: Instance, database: str = "analytics") -> dict[str, str]:
    return {
        "SPILLWAY_REDIS_URL": some.settings.redis,
        "SPILLWAY_DATABASE_URL": some.settings.database.removesuffix("analytics") + database,
        # Were these used, nothing would answer.
        "SPILLWAY_REDIS_PORT": str(free_port()),
        "SPILLWAY_POSTGRES_PORT": str(free_port()),
        "SPILLWAY_INSTANCE": "nothing-of-this-name",
    }


@pytest.fixture
def other_database(some: Instance) -> str:
    """A database without Spillway's schema."""
    with psycopg.connect(some.settings.database, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS other")
        connection.execute("CREATE DATABASE other")
    return "other"


def test_up_starts_nothing_and_schema_creates_the_tables(some: Instance, other_database: str) -> None:
    given = urls(some, other_database)
    assert "run `spillway schema`" in some.error("up", **given)
    for _ in range(2):
        assert some.run("schema", **given).returncode == 0
    done = some.run("up", **given)
    assert done.returncode == 0, done.stderr
    assert "nothing was started" in done.stdout
    assert "Redis " in done.stdout
    assert "TimescaleDB 2." in done.stdout
    assert not (some.state_dir / "nothing-of-this-name").exists()


def test_up_and_schema_refuse_a_database_that_is_newer_than_the_program(some: Instance, other_database: str) -> None:
    given = urls(some, other_database)
    assert some.run("schema", **given).returncode == 0
    with psycopg.connect(given["SPILLWAY_DATABASE_URL"]) as connection:
        connection.execute("INSERT INTO spillway.schema_version (version, name) VALUES (999, 'later')")
    for command in ("up", "schema"):
        line = some.error(command, **given)
        assert "newer than this release of Spillway: expected version" in line
        assert "found version 999" in line or "found 999" in line
        assert "upgrade Spillway" in line


def test_clients_connect_to_the_urls(some: Instance) -> None:
    given = urls(some)
    assert some.run("psql", "-Atc", "SELECT 42", **given).stdout == "42\n"
    assert some.run("redis-cli", "ping", **given).stdout == "PONG\n"


def test_servers_that_spillway_did_not_start_are_not_touched(some: Instance) -> None:
    line = some.error("reset", "--yes", **urls(some))
    assert "SPILLWAY_DATABASE_URL and SPILLWAY_REDIS_URL are set" in line
    assert "does not remove the data of servers that it did not start" in line
    external = ExternalEngine(some.settings.model_copy(update={"redis_url": SecretStr(some.settings.redis)}))
    for refused in (
        external.down,
        external.restart,
        external.reset,
        lambda: external.logs(None, False),
        lambda: external.start("redis"),
        lambda: external.stop("redis"),
    ):
        with pytest.raises(Terminal, match="SPILLWAY_REDIS_URL is set, and Spillway does not"):
            refused()
    assert {one.state for one in some.engine.status()} == {"healthy"}


def test_a_wrong_database_password_is_reported_in_one_line_without_it(some: Instance) -> None:
    wrong = some.settings.database.replace("analytics_pass", SECRET)
    line = some.error("up", **{**urls(some), "SPILLWAY_DATABASE_URL": wrong})
    assert "password authentication failed" in line
    assert "fix SPILLWAY_DATABASE_URL" in line
    assert SECRET not in line


def test_a_wrong_redis_password_is_reported_in_one_line_without_it(some: Instance) -> None:
    with redis.Redis(port=some.redis_port) as client:
        client.config_set("requirepass", "right")
        try:
            given = {**urls(some), "SPILLWAY_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:{some.redis_port}/0"}
            line = some.error("up", **given)
            given["SPILLWAY_REDIS_URL"] = given["SPILLWAY_REDIS_URL"].replace(SECRET, "right")
            assert some.run("redis-cli", "ping", **given).stdout == "PONG\n"
        finally:
            client.config_set("requirepass", "")
    assert "invalid username-password pair" in line
    assert "fix SPILLWAY_REDIS_URL" in line
    assert SECRET not in line


def test_a_url_that_is_not_set_means_the_local_server(some: Instance) -> None:
    apply_schema(some.settings.database)
    done = some.run("up", SPILLWAY_REDIS_URL=some.settings.redis)
    assert done.returncode == 0, done.stderr
    assert str(some.postgres_port) in done.stdout
    assert "SPILLWAY_REDIS_URL is set" in some.error("down", SPILLWAY_REDIS_URL=some.settings.redis)


def test_status_reports_a_server_that_does_not_answer(some: Instance) -> None:
    port = free_port()
    done = some.run("status", **{**urls(some), "SPILLWAY_REDIS_URL": f"redis://127.0.0.1:{port}/0"})
    assert done.returncode == 1
    assert "healthy" in done.stdout
    assert f"redis at 127.0.0.1:{port}" in done.stderr
    assert "check that it runs there" in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}%zz@localhost/name",
        f"postgresql://user:p@{SECRET}:x/name",
        f"{SECRET}",
    ],
)
def test_an_invalid_database_url_is_not_quoted(some: Instance, url: str) -> None:
    line = some.error("up", SPILLWAY_DATABASE_URL=url)
    assert "SPILLWAY_DATABASE_URL: expected a URL like postgresql://" in line
    assert SECRET not in line


def test_an_invalid_redis_url_is_not_quoted(some: Instance) -> None:
    line = some.error("up", SPILLWAY_REDIS_URL=f"redis://user:pass#{SECRET}@localhost:6379/0")
    assert "SPILLWAY_REDIS_URL" in line
    assert SECRET not in line


def test_libpq_variables_describe_the_url() -> None:
    assert libpq_variables("postgresql://me:a%40b@db.example:6543/events?sslmode=require") == {
        "PGUSER": "me",
        "PGPASSWORD": "a@b",
        "PGHOST": "db.example",
        "PGPORT": "6543",
        "PGDATABASE": "events",
        "PGSSLMODE": "require",
    }


@pytest.mark.parametrize(
    ("url", "options", "variables"),
    [
        ("redis://127.0.0.1:6379/0", ["-h", "127.0.0.1", "-p", "6379"], {}),
        (
            "rediss://me:a%40b@cache.example/2",
            ["-h", "cache.example", "-p", "6379", "--tls", "-n", "2", "--user", "me"],
            {"REDISCLI_AUTH": "a@b"},
        ),
        ("unix:///run/redis.sock", ["-s", "/run/redis.sock"], {}),
    ],
)
def test_redis_cli_options_describe_the_url_without_its_password(
    url: str, options: list[str], variables: dict[str, str]
) -> None:
    assert read_redis_url(url).redis_cli() == (options, variables)
