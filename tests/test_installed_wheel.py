"""The wheel, installed with pip into a fresh environment, works outside the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from infra.settings import PROJECT_ROOT
from tests.support.oracle import ledger_is_whole, ledger_sums
from tests.support.programs import BIN
from tests.support.servers import Servers

pytestmark = pytest.mark.timeout(600)

PACKAGES = ("flows", "tasks", "infra")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the files that git would commit."""
    folder = tmp_path_factory.mktemp("source")
    listed = [
        "git",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        *PACKAGES,
        "pyproject.toml",
        "README.md",
    ]
    names = subprocess.run(listed, cwd=PROJECT_ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT_ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT_ROOT / name, folder / name)
    run(
        [
            BIN / "uv",
            "build",
            "--wheel",
            "--no-build-isolation",
            "--python",
            sys.executable,
            "-o",
            folder / "dist",
            folder,
        ]
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


@dataclass(frozen=True)
class Installation:
    """The installed command, run in a folder in which nothing is, by a user who has nothing."""

    spillway: Path
    folder: Path
    variables: dict[str, str]

    def __call__(self, *arguments: str) -> str:
        """Standard output of `spillway ARGUMENTS`, which must succeed."""
        return run([self.spillway, *arguments], self.folder, self.variables)


@pytest.fixture(scope="module")
def installed(wheel: Path, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel in a fresh environment that holds what requirements.lock names, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    programs = folder / "venv" / "bin"
    lock = PROJECT_ROOT / "requirements.lock"
    run([BIN / "uv", "pip", "install", "--python", programs / "python", "--require-hashes", "-r", lock])
    run([programs / "pip", "install", "--disable-pip-version-check", "--no-index", wheel])
    home = folder / "home"
    home.mkdir()
    variables = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "SPILLWAY_REDIS_URL": servers.settings.redis,
        "SPILLWAY_DATABASE_URL": servers.settings.database,
    }
    return Installation(programs / "spillway", home, variables)


def run(command: list[str | Path], folder: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed; by default in the environment of the tests."""
    done = subprocess.run(
        command, cwd=folder, env=variables or dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """SQL, TOML and YAML files need a line in pyproject.toml each."""
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=PROJECT_ROOT, capture_output=True, check=True, text=True
    ).stdout
    assert packed >= set(filter(None, listed.splitlines()))
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed


def test_it_makes_the_schema_and_drains_a_stream_outside_the_clone(
    installed: Installation, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    assert installed("--version").split()[0] == "spillway"
    assert "drain" in installed("--help")
    installed("schema")
    installed("generate", "--stream", stream, "--events", "1000", "--seed", "1")
    drained = json.loads(installed("drain", "--stream", stream, "--json").splitlines()[-1])
    assert (drained["read"], drained["inserted"]) == (1_000, 1_000)
    assert database.execute("SELECT count(*) FROM events").fetchone() == (1_000,)
    assert ledger_is_whole(database, stream)
    assert ledger_sums(database, stream) == (1_000, 1_000, 0, 0)
    assert stream in installed("status")


def test_relative_settings_mean_the_working_directory(installed: Installation, redis_client: redis.Redis) -> None:
    """A mapping next to `.env` is read, as it is in the clone."""
    (installed.folder / "spillway.toml").write_text("[streams.x]\nlayout = 'no such layout'\n")
    try:
        refused = subprocess.run(
            [installed.spillway, "drain", "--stream", "x"],
            cwd=installed.folder, env=installed.variables, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        (installed.folder / "spillway.toml").unlink()
    assert refused.returncode == 2
    assert str(installed.folder / "spillway.toml") in refused.stderr.replace("\n", "")
