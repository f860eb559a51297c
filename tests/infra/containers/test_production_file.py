"""infra/compose.production.yaml: its promises, and that both Compose clients accept it."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import Settings
from tests.support.production_compose import PRODUCTION_FILE, SECRETS_SCRIPT

CLIENTS = [["docker", "compose"], ["docker-compose"]]
SERVICES = ("prefect-database", "prefect", "schema", "deploy", "worker")


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PRODUCTION_FILE.read_text())
    return loaded


@pytest.mark.parametrize("client", CLIENTS, ids=" ".join)
def test_compose_clients_accept_it(client: list[str]) -> None:
    if not shutil.which(client[0]) or subprocess.run([*client, "version"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(client)} is not on this machine")
    done = subprocess.run([*client, "-f", PRODUCTION_FILE, "config"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_hardened_and_limited_and_publishes_nothing(content: dict[str, Any], name: str) -> None:
    service = content["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "cpus", "pids_limit", "restart", "healthcheck"} - set(service) <= {"healthcheck"}
    assert not {"ports", "privileged", "network_mode", "pid", "container_name"} & set(service)
    assert ("cap_add" in service) == (name == "prefect-database")


def test_secrets_are_files_and_nowhere_else(content: dict[str, Any]) -> None:
    for service in content["services"].values():
        assert set(service["secrets"]) <= set(content["secrets"])
        for name, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|AUTH_STRING|(REDIS|DATABASE)_URL", name)
            assert not secret or (name.endswith("_FILE") and value.startswith("/run/secrets/"))
    used = {name for service in content["services"].values() for name in service["secrets"]}
    assert used == set(content["secrets"])


def test_its_settings_exist(content: dict[str, Any]) -> None:
    names = {name.removesuffix("_FILE") for name in content["services"]["worker"]["environment"]}
    known = {f"SPILLWAY_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in names if name.startswith("SPILLWAY_")} <= known


def test_only_what_needs_your_servers_reaches_outside(content: dict[str, Any]) -> None:
    reaches = {name for name, service in content["services"].items() if "outside" in service["networks"]}
    assert reaches == {"schema", "deploy", "worker"}
    assert {name: (network or {}).get("internal", False) for name, network in content["networks"].items()} == {
        "outside": False, "api": True, "database": True,
    }  # fmt: skip


def test_the_script_makes_the_secrets_once(tmp_path: Path, content: dict[str, Any]) -> None:
    folder = tmp_path / "secrets"

    def make() -> dict[str, bytes]:
        subprocess.run([SECRETS_SCRIPT, folder], check=True, capture_output=True)
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    made = make()
    assert set(made) | {"redis_url", "database_url"} == set(content["secrets"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o444}
    assert make() == made
