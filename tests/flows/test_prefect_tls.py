"""A Prefect server with TLS by a private authority, and a password: deployed to, and drained by its schedule."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support.certificates import make_certificates
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

SECRET = "s3cret-of-prefect"


@dataclass
class Guarded:
    """A Prefect server. `environment`: with which one reaches it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `spillway`. Nothing that it prints has the password."""
        command = [BIN / "spillway", *arguments]
        environment = {name: value for name, value in (self.environment | variables).items() if value}
        done = subprocess.run(
            command, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=240
        )
        assert SECRET not in done.stdout + done.stderr
        return done

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@contextmanager
def process(log: Path, environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        found = subprocess.Popen(command, env=environment, cwd=PROJECT_ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield found
    finally:
        found.terminate()
        found.wait(240)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder, port = make_certificates(tmp_path_factory.mktemp("prefect-tls")), free_port()
    common = {name: value for name, value in os.environ.items() if not name.startswith("SPILLWAY_")}
    common |= {"PREFECT_HOME": str(folder / "home"), "PREFECT_LOGGING_LEVEL": "INFO"}
    server = common | {
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{SECRET}",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    }
    tls = ("--ssl-certfile", str(folder / "server.pem"), "--ssl-keyfile", str(folder / "server.key"))
    program = ("--factory", "prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(port))
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    with process(folder / "server.log", server, str(BIN / "uvicorn"), *program, *tls) as running:

        def answers() -> bool:
            with suppress(OSError):
                urllib.request.urlopen(f"https://localhost:{port}/api/health", timeout=60, context=context).close()
                return True
            return running.poll() is not None

        wait_until(answers, shown=(folder / "server.log").read_text)
        assert running.poll() is None, (folder / "server.log").read_text()
        yield Guarded(
            folder,
            common
            | {
                "PREFECT_API_URL": f"https://localhost:{port}/api",
                "PREFECT_API_AUTH_STRING": f"admin:{SECRET}",
                "PREFECT_API_SSL_CERT_FILE": str(folder / "ca.pem"),
                "PREFECT_WORKER_QUERY_SECONDS": "1",
            },
        )


@pytest.mark.parametrize(
    ("command", "variables", "parts"),
    [
        ("deploy", {"PREFECT_API_AUTH_STRING": ""}, ("expects a password, found none", "set PREFECT_API_AUTH_STRING=")),
        (
            "status",
            {"PREFECT_API_AUTH_STRING": "admin:wrong"},
            ("refuses the password", "set PREFECT_API_AUTH_STRING="),
        ),
        ("deploy", {"PREFECT_API_SSL_CERT_FILE": "other.pem"}, ("not trusted", "PREFECT_API_SSL_CERT_FILE")),
        ("deploy", {"PREFECT_API_SSL_CERT_FILE": "none.pem"}, ("no such file as PREFECT_API_SSL_CERT_FILE", "correct")),
    ],
    ids=["no password", "a wrong password", "another authority", "no file of it"],
)
def test_who_is_refused_is_told_what_to_set(
    guarded: Guarded, env: dict[str, str], command: str, variables: dict[str, str], parts: tuple[str, str]
) -> None:
    servers = {name: value for name, value in env.items() if name.startswith("SPILLWAY_")}
    variables = {name: str(guarded.folder / value) if "FILE" in name else value for name, value in variables.items()}
    done = guarded.run(command, **servers, **variables)
    assert done.returncode == 1
    printed = " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in printed
    assert all(part in printed for part in parts), printed


def test_a_worker_runs_the_schedule_and_drains(
    guarded: Guarded, env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    servers = {name: value for name, value in env.items() if name.startswith("SPILLWAY_")}
    servers |= {"SPILLWAY_DRAIN_EVERY": "10s"}
    entries = [event(n) for n in range(300)]
    send(redis_client, "events-web", entries)
    deployed = guarded.run("deploy", **servers)
    assert deployed.returncode == 0, deployed.stderr
    worker = (str(BIN / "prefect"), "worker", "start", "--pool", "spillway")
    with process(guarded.folder / "worker.log", guarded.environment | servers, *worker):
        loaded = "SELECT count(*) FROM events"
        wait_until(lambda: database.execute(loaded).fetchone() == (300,), 240, shown=lambda: guarded.log("worker"))
        assert table_rows(database) == flat_rows(entries)
        assert ledger_is_whole(database, "events-web")
        found = guarded.run("status", "--json", **servers)
        assert found.returncode == 0, found
        (last,) = (one["last"] for one in json.loads(found.stdout)["schedule"] if one["name"] == "drain/scheduled")
        assert last is not None, found
    assert SECRET not in guarded.log("worker") + guarded.log("server")
