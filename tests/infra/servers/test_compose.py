"""The compose file: its promises, and that both Compose clients accept it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from infra.servers.docker import COMPOSE_FILE, DockerEngine
from infra.servers.server import STOP_LIMIT
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER, SCHEMA_SQL, Settings
from infra.versions import NEWEST_TESTED_TIMESCALEDB

CLIENTS = [["docker", "compose"], ["docker-compose"]]


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    return loaded


def defaults(text: str) -> str:
    """`${NAME:-default}` as its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_redis_is_durable_and_never_evicts(content: dict[str, Any]) -> None:
    redis = content["services"]["redis"]
    assert redis["image"] == "redis:7-alpine"
    assert defaults(redis["container_name"]) == "analytics-redis"
    assert [defaults(port) for port in redis["ports"]] == ["127.0.0.1:6379:6379"]
    assert redis["command"] == ["redis-server", "--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    assert redis["volumes"] == ["redis-data:/data"]
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert redis["healthcheck"]["interval"] == "5s"
    assert redis["restart"] == "unless-stopped"


def test_timescaledb_has_the_credentials_of_the_settings(content: dict[str, Any]) -> None:
    timescaledb = content["services"]["timescaledb"]
    assert timescaledb["image"] == f"timescale/timescaledb:{NEWEST_TESTED_TIMESCALEDB}-pg16"
    assert defaults(timescaledb["container_name"]) == "analytics-timescaledb"
    assert [defaults(port) for port in timescaledb["ports"]] == ["127.0.0.1:5432:5432"]
    environment = timescaledb["environment"]
    assert environment["POSTGRES_DB"] == DATABASE == "analytics"
    assert environment["POSTGRES_USER"] == DATABASE_USER == "analytics_user"
    assert environment["POSTGRES_PASSWORD"] == DATABASE_PASSWORD == "analytics_pass"
    assert timescaledb["volumes"][0] == "timescale-data:/var/lib/postgresql/data"
    assert timescaledb["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert timescaledb["healthcheck"]["interval"] == "10s"
    assert timescaledb["restart"] == "unless-stopped"


def test_the_schema_is_mounted_after_the_images_own_scripts(content: dict[str, Any]) -> None:
    source, target, mode = content["services"]["timescaledb"]["volumes"][1].split(":")
    assert (COMPOSE_FILE.parent / source).resolve() == SCHEMA_SQL
    folder, _, name = target.rpartition("/")
    assert folder == "/docker-entrypoint-initdb.d"
    assert name > "001_timescaledb_tune.sh"
    assert name.endswith(".sql")
    assert mode == "ro"


def test_docker_gives_both_servers_as_long_to_stop_as_the_other_engines(content: dict[str, Any]) -> None:
    assert {service["stop_grace_period"] for service in content["services"].values()} == {f"{STOP_LIMIT}s"}


def test_the_volumes_are_named(content: dict[str, Any]) -> None:
    assert set(content["volumes"]) == {"redis-data", "timescale-data"}


@pytest.mark.parametrize("client", CLIENTS, ids=" ".join)
@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, ["analytics-redis", "analytics-timescaledb", "6379", "5432"]),
        (
            {"SPILLWAY_INSTANCE": "mine", "SPILLWAY_REDIS_PORT": "7001", "SPILLWAY_POSTGRES_PORT": "7002"},
            ["mine-redis", "mine-timescaledb", "7001", "7002"],
        ),
    ],
)
def test_compose_clients_accept_it(client: list[str], variables: dict[str, str], wanted: list[str]) -> None:
    if not shutil.which(client[0]) or subprocess.run([*client, "version"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(client)} is not on this machine")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")}
    done = subprocess.run(
        [*client, "-f", COMPOSE_FILE, "config"], env=environment | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert [services["redis"]["container_name"], services["timescaledb"]["container_name"]] == wanted[:2]
    for service, port in zip(("redis", "timescaledb"), wanted[2:], strict=True):
        (published,) = services[service]["ports"]
        if isinstance(published, dict):
            assert (published["host_ip"], str(published["published"])) == ("127.0.0.1", port)
        else:
            assert published.startswith(f"127.0.0.1:{port}:")


def test_each_instance_is_a_project_and_the_default_one_is_that_of_plain_compose() -> None:
    assert DockerEngine(Settings(_env_file=None, instance="analytics")).project == "infra"
    assert DockerEngine(Settings(_env_file=None, instance="mine")).project == "infra-mine"
