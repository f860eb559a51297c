"""A Prefect server and worker for the tests, and its command line."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from infra.settings import PROJECT_ROOT, Settings
from tests.environment import PREFECT_HOME, PREFECT_PORT
from tests.support.programs import BIN
from tests.support.waiting import wait_until


@contextmanager
def running_prefect(plans: bool = False) -> Iterator[str]:
    """A Prefect server, for pytest and for programs without pytest. `plans`: runs of the deployments' schedules."""
    url = os.environ["PREFECT_API_URL"]
    log = PREFECT_HOME / "server.log"
    with log.open("wb") as output:
        command = [str(BIN / "prefect"), "server", "start", "--port", str(PREFECT_PORT)]
        environment = os.environ | {"PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(plans).lower()}
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: server.poll() is not None or _answers(f"{url}/health"), 240, shown=log.read_text)
        assert server.poll() is None, log.read_text()
        yield url
    finally:
        server.terminate()
        server.wait(timeout=120)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60):
            return True
    except OSError:
        return False


def deploy_all(environment: Mapping[str, str]) -> None:
    """Register the deployments with a work pool, and pause their schedules: tests decide when something runs.

    The server plans nothing, and `spillway status` would report that of a schedule that is on.
    """
    for command in ("spillway deploy", "prefect deployment schedule pause --all"):
        program, *arguments = command.split()
        done = subprocess.run(
            [BIN / program, *arguments],
            env=environment,
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def running_worker(config: Settings) -> Iterator[str]:
    """A worker, for pytest and for programs without pytest."""
    environment = os.environ | {
        "SPILLWAY_REDIS_URL": config.redis,
        "SPILLWAY_DATABASE_URL": config.database,
        "PREFECT_LOGGING_LEVEL": "INFO",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }

    deploy_all(environment)
    log = PREFECT_HOME / "worker.log"
    with log.open("wb") as output:
        command = [str(BIN / "prefect"), "worker", "start", "--pool", "spillway"]
        process = subprocess.Popen(command, env=environment, cwd=PROJECT_ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield "drain/scheduled"
    finally:
        process.terminate()
        process.wait(timeout=120)


def run_prefect(env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([BIN / "prefect", *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
