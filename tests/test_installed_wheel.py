"""The wheel, installed with pip into a fresh environment, works outside the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support import waiting
from tests.support.oracle import crossref_rows, ledger_is_whole, ledger_sums, table_rows
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.real_data import sample_events
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
    """The installed commands, run in a folder in which nothing is, by a user who has nothing."""

    spillway: Path
    folder: Path
    variables: dict[str, str]

    def __call__(self, *arguments: str) -> str:
        """Standard output of `spillway ARGUMENTS`, which must succeed."""
        return run([self.spillway, *arguments], self.folder, self.variables)

    @property
    def prefect(self) -> Path:
        return self.spillway.with_name("prefect")

    @contextmanager
    def running(self, *command: str | Path) -> Iterator[Callable[[Callable[[], bool]], None]]:
        """A command that keeps running. Gives a function that waits for a condition, and shows the output if it stays
        false for four minutes or if the command ends: what starts first in the environment also compiles Prefect."""
        log = self.folder / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.variables, stdout=output, stderr=subprocess.STDOUT
            )

        def wait_until(condition: Callable[[], bool]) -> None:
            waiting.wait_until(lambda: process.poll() is not None or condition(), 240, shown=log.read_text, every=0.5)
            assert process.poll() is None, log.read_text()

        try:
            yield wait_until
        finally:
            process.terminate()
            process.wait(timeout=240)


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


@pytest.fixture(scope="module")
def schedule(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A Prefect server of the fresh environment, and a user who has its address and no setting of Spillway."""
    url = f"http://127.0.0.1:{(port := free_port())}/api"
    variables = {
        "HOME": installed.variables["HOME"],
        "PATH": installed.variables["PATH"],
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": url,
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
    user = replace(installed, folder=tmp_path_factory.mktemp("server"), variables=variables)

    def answers() -> bool:
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=60).status == 200
        except OSError:
            return False

    with user.running(user.prefect, "server", "start", "--port", str(port)) as wait_until:
        wait_until(answers)
        yield user


@pytest.fixture
def project(schedule: Installation, installed: Installation, stream: str, tmp_path: Path) -> Installation:
    """A folder of the user's with `.env` and a mapping of the stream, which is due every 10 s."""
    lines = [f"{name}={value}" for name, value in installed.variables.items() if name.startswith("SPILLWAY_")]
    lines += [f"SPILLWAY_SCHEDULED_STREAMS={stream}", "SPILLWAY_DRAIN_EVERY=10s"]
    (tmp_path / ".env").write_text("\n".join(lines))
    mapping = (PROJECT_ROOT / "spillway.toml").read_text().replace("crossref*", stream)
    (tmp_path / "spillway.toml").write_text(mapping)
    return replace(schedule, folder=tmp_path)


def send_real_events(client: redis.Redis, stream: str) -> list[bytes]:
    """Real events, which only the user's mapping reads. Returns their lines."""
    lines = sample_events().splitlines()
    send(client, stream, [{b"data": line} for line in lines])
    return lines


def test_a_run_on_a_worker_has_the_settings_of_the_folder_in_which_deploy_was_typed(
    schedule: Installation, project: Installation, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """The worker is started in another folder, and starts each run in an empty one."""
    lines = send_real_events(redis_client, stream)
    project("deploy")
    elsewhere = project.folder / "elsewhere"
    elsewhere.mkdir()
    worker = replace(schedule, folder=elsewhere)
    with worker.running(schedule.prefect, "worker", "start", "--pool", "spillway") as wait_until:
        wait_until(lambda: table_rows(database) == crossref_rows(lines))
    assert ledger_is_whole(database, stream)
    run([schedule.prefect, "deployment", "delete", "--all"], schedule.folder, schedule.variables)


def test_a_run_of_serve_has_the_settings_of_the_folder_in_which_serve_was_typed(
    project: Installation, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """Also with a mapping whose path is relative."""
    (project.folder / "spillway.toml").rename(project.folder / "mine.toml")
    with (project.folder / ".env").open("a") as settings:
        settings.write("\nSPILLWAY_MAPPINGS=mine.toml\n")
    lines = send_real_events(redis_client, stream)
    with project.running(project.spillway, "serve") as wait_until:
        wait_until(lambda: table_rows(database) == crossref_rows(lines))
    assert ledger_is_whole(database, stream)


def test_relative_settings_mean_the_working_directory(project: Installation) -> None:
    """A mapping next to `.env` is read, as it is in the clone."""
    (project.folder / "spillway.toml").write_text("[streams.x]\nlayout = 'no such layout'\n")
    refused = subprocess.run(
        [project.spillway, "drain", "--stream", "x"],
        cwd=project.folder, env=project.variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert str(project.folder / "spillway.toml") in refused.stderr.replace("\n", "")
