"""The image of the Dockerfile as users run it: unprivileged, on a read-only file system, with its secrets in files; and
infra/compose.production.yaml with it. They are in one file because the image takes a minute to build."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support.oracle import crossref_rows, flat_rows, ledger_is_whole, table_rows
from tests.support.ports import free_port
from tests.support.production_compose import Production, production
from tests.support.production_image import IMAGE, build_image, make_base
from tests.support.real_data import sample_events
from tests.support.servers import Servers
from tests.support.stand_in_images import Podman, containers, require_containers
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

# The first test builds the image.
pytestmark = pytest.mark.timeout(1800)

_SOON_SECONDS = 300  # for a scheduled run; on a machine that does nothing else it takes 30
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
_MAPPING = f"--volume={PROJECT_ROOT}/spillway.toml:/srv/spillway/spillway.toml:ro"


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    require_containers()
    with ThreadPoolExecutor(1) as beside:
        base = beside.submit(make_base, tmp_path_factory.mktemp("base") / "root.tar")
        with containers(Path(tempfile.mkdtemp(prefix="spillway-containers-"))) as made:
            build_image(made, base.result())
            yield made


@dataclass(frozen=True)
class Image:
    """The image, with the addresses of the test servers in files."""

    podman: Podman
    options: tuple[str, ...]

    def run(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """The output of a container that has ended; it has to succeed."""
        return self.podman.run("run", "--rm", *self.options, *options, IMAGE, *command)

    def start(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """The id of a container that keeps running."""
        return self.podman.run("run", "--detach", *self.options, *options, IMAGE, *command).strip()

    def is_healthy(self, container: str) -> bool:
        """The result of the image's health check."""
        argv = ["podman", "healthcheck", "run", container]
        return subprocess.run(argv, env=self.podman.environment, capture_output=True).returncode == 0

    def log(self, container: str) -> str:
        argv = ["podman", "logs", container]
        done = subprocess.run(argv, env=self.podman.environment, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr


@pytest.fixture
def image(podman: Podman, servers: Servers, env: dict[str, str], tmp_path: Path) -> Image:
    secrets = {"REDIS_URL": servers.settings.redis, "DATABASE_URL": servers.settings.database}
    options = [*HARDENED, _MAPPING]
    for name, text in secrets.items():
        file = tmp_path / name.lower()
        file.write_text(f"{text}\n")
        file.chmod(0o444)
        options += [
            f"--volume={file}:/run/secrets/{file.name}:ro",
            f"--env=SPILLWAY_{name}_FILE=/run/secrets/{file.name}",
        ]
    return Image(podman, tuple(options))


def test_it_has_a_numeric_user_and_neither_compiler_nor_pip_nor_secrets(image: Image) -> None:
    (config,) = json.loads(image.podman.run("image", "inspect", IMAGE))
    assert config["Config"]["User"] == "10001:10001"
    assert config["Config"]["Entrypoint"] == ["/usr/local/bin/spillway-entrypoint"]
    assert "/etc/pip.conf" not in json.dumps(config["Config"]["Env"])
    script = "id -u; ls /etc/pip.conf /srv/spillway; command -v gcc cc make /opt/spillway/bin/pip; true"
    found = image.run("-c", script, options=("--entrypoint=/bin/sh",)).split()
    assert found == ["10001", "/srv/spillway:", "prefect.toml", "spillway.toml"]


@pytest.mark.parametrize(
    ("path", "fault"), [("/run/secrets/none", "cannot read /run/secrets/none"), ("/dev/null", "/dev/null is empty")]
)
def test_a_secret_that_cannot_be_read_is_named(image: Image, path: str, fault: str) -> None:
    options = [*image.options, f"--env=PREFECT_API_AUTH_STRING_FILE={path}"]
    done = subprocess.run(
        ["podman", "run", "--rm", *options, IMAGE, "deploy"],
        env=image.podman.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert f"PREFECT_API_AUTH_STRING_FILE: {fault}; nothing was started" in done.stderr


def test_it_drains_real_events(
    image: Image, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    lines = sample_events().splitlines()
    stream = f"crossref-{stream}"
    send(redis_client, stream, [{b"data": line} for line in lines])
    result = json.loads(image.run("drain", "--stream", stream, "--json").splitlines()[-1])
    assert (result["read"], result["quarantined"]) == (len(lines), 0)
    assert table_rows(database) == crossref_rows(lines)
    assert ledger_is_whole(database, stream)


def test_its_health_check_says_whether_runs_can_work(image: Image, database: psycopg.Connection) -> None:
    container = image.start("metrics", "--listen", str(free_port()))
    assert image.is_healthy(container), image.log(container)
    database.execute("ALTER TABLE spillway.schema_version RENAME TO hidden")
    try:
        assert not image.is_healthy(container)
    finally:
        database.execute("ALTER TABLE spillway.hidden RENAME TO schema_version")


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        (("prefect", "worker", "start", "--pool", "spillway", "--type", "process"), "Worker 'ProcessWorker"),
        (("serve",), "Your deployments are being served"),
        (("metrics", "--listen", "PORT"), "/metrics"),
    ],
    ids=["worker", "serve", "metrics"],
)
@pytest.mark.usefixtures("nothing_deployed")
def test_a_request_to_stop_ends_it_without_a_kill(
    image: Image, prefect_server: str, database: psycopg.Connection, command: tuple[str, ...], sign: str
) -> None:
    words = [str(free_port()) if word == "PORT" else word for word in command]
    container = image.start(*words, options=(f"--env=PREFECT_API_URL={prefect_server}",))
    wait_until(lambda: sign in image.log(container), shown=lambda: image.log(container))
    image.podman.run("stop", "--time", "120", container)  # by default it is killed after 10 s
    state = json.loads(image.podman.run("container", "inspect", container))[0]["State"]
    assert state["ExitCode"] != 137, image.log(container)  # it was not killed


@pytest.fixture(scope="module")
def project(podman: Podman, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """The production file, up, with drains every 20 s, one at a time, and a place for one that is lost."""
    schedule = {"SPILLWAY_DRAIN_EVERY": "20s", "SPILLWAY_SCHEDULED_STREAMS": "crossref*,events*"}
    workers = {"SPILLWAY_DRAIN_WORKERS": "2", "SPILLWAY_WORKER_LIMIT": "1"}
    with production(podman, tmp_path_factory.mktemp("production"), servers.settings, **schedule, **workers) as made:
        made.compose("up", "--detach")
        yield made


def test_scheduled_runs_drain_real_events_also_after_a_restart(
    project: Production, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    lines = sample_events().splitlines()
    stream, half = f"crossref-{stream}", len(lines) // 2
    send(redis_client, stream, [{b"data": line} for line in lines[:half]])
    wait_until(lambda: table_rows(database) == crossref_rows(lines[:half]), _SOON_SECONDS, shown=project.logs)
    before = project.inspect("worker")["State"]
    project.compose("restart", "--timeout", "60", "prefect-database", "prefect", "worker")
    assert project.inspect("worker")["State"] != before
    send(redis_client, stream, [{b"data": line} for line in lines[half:]])
    wait_until(lambda: table_rows(database) == crossref_rows(lines), _SOON_SECONDS, shown=project.logs)
    assert ledger_is_whole(database, stream)


def a_load_waits(connection: psycopg.Connection) -> bool:
    """Whether a load waits for the lock of this test."""
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").fetchone()
    return row == (True,)


def test_the_run_after_a_killed_container_of_a_worker_ends_exact(
    project: Production, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """It is killed in the middle of a load, as the kernel does if memory is short; Docker starts it again."""
    stream = f"events-{stream}"
    entries = [event(number) for number in range(3_000)]
    with database.transaction():
        database.execute("LOCK TABLE events IN SHARE MODE")
        send(redis_client, stream, entries)
        wait_until(lambda: a_load_waits(database), _SOON_SECONDS, shown=project.logs)
        pid = project.inspect("worker")["State"]["Pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: project.inspect("worker")["State"]["Pid"] not in (0, pid), shown=project.logs)
    wait_until(lambda: table_rows(database) == flat_rows(entries), _SOON_SECONDS, shown=project.logs)
    assert ledger_is_whole(database, stream)
    wait_until(lambda: project.inspect("worker")["State"]["Health"]["Status"] == "healthy", shown=project.logs)


def test_no_port_is_published_and_no_container_of_spillway_is_root(project: Production) -> None:
    for service in ("prefect", "worker"):
        found = project.inspect(service)
        assert not [port for ports in (found["NetworkSettings"]["Ports"] or {}).values() for port in ports or []]
        status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
        facts = dict(line.split(":\t", 1) for line in status.splitlines())
        assert facts["Uid"].split()[0] == "10001"
        assert (int(facts["CapEff"], 16), int(facts["CapBnd"], 16), facts["NoNewPrivs"]) == (0, 0, "1")


_ASK = """
import json, ssl, sys, urllib.error, urllib.request
trusted = ssl.create_default_context(cafile="/run/secrets/prefect_tls_authority")
ask = urllib.request.Request("https://prefect:4200/api/flows/count", data=b"{}", headers=json.loads(sys.argv[1]))
try:
    print(urllib.request.urlopen(ask, context=trusted, timeout=120).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_prefect_answers_over_tls_to_those_who_have_the_password(project: Production) -> None:
    worker = project.inspect("worker")["Id"]
    password = project.podman.run("exec", worker, "cat", "/run/secrets/prefect_auth").strip()
    basic = base64.b64encode(password.encode()).decode()
    for headers, status in (({}, "401"), ({"Authorization": f"Basic {basic}"}, "200")):
        assert project.podman.run("exec", worker, "python", "-c", _ASK, json.dumps(headers)).strip() == status
