"""The image of the Dockerfile as users run it: unprivileged, on a read-only file system, with its secrets in files."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.servers.ports import free_port
from infra.settings import PROJECT_ROOT
from tests.support.oracle import crossref_rows, ledger_is_whole, table_rows
from tests.support.production_image import IMAGE, build_image
from tests.support.real_data import sample_events
from tests.support.servers import Servers
from tests.support.stand_in_images import Podman, containers, require_containers

# The first test builds the image.
pytestmark = pytest.mark.timeout(600)

_STOP_SECONDS = 10  # after which Docker kills by default
HARDENED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
_MAPPING = f"--volume={PROJECT_ROOT}/spillway.toml:/srv/spillway/spillway.toml:ro"


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    require_containers()
    with containers(Path(tempfile.mkdtemp(prefix="spillway-containers-"))) as made:
        build_image(made)
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


def wait_until(condition: Callable[[], bool], image: Image, container: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, image.log(container)
        time.sleep(0.2)


def test_it_has_a_numeric_user_and_neither_compiler_nor_pip_nor_secrets(image: Image) -> None:
    (config,) = json.loads(image.podman.run("image", "inspect", IMAGE))
    assert config["Config"]["User"] == "10001:10001"
    assert config["Config"]["Entrypoint"] == ["/usr/local/bin/spillway-entrypoint"]
    assert "/etc/pip.conf" not in json.dumps(config["Config"]["Env"])
    script = "id -u; ls /etc/pip.conf /srv/spillway; command -v gcc cc make /opt/spillway/bin/pip; true"
    found = image.run("-c", script, options=("--entrypoint=/bin/sh",)).split()
    assert found == ["10001", "/srv/spillway:", "prefect.toml", "spillway.toml"]


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
        (("metrics", "--listen", str(free_port())), "/metrics"),
    ],
    ids=["worker", "serve", "metrics"],
)
def test_a_request_to_stop_ends_it_within_seconds(
    image: Image, prefect_server: str, database: psycopg.Connection, command: tuple[str, ...], sign: str
) -> None:
    container = image.start(*command, options=(f"--env=PREFECT_API_URL={prefect_server}",))
    wait_until(lambda: sign in image.log(container), image, container)
    began = time.monotonic()
    image.podman.run("stop", "--time", "60", container)
    assert time.monotonic() - began < _STOP_SECONDS, image.log(container)
    state = json.loads(image.podman.run("container", "inspect", container))[0]["State"]
    assert state["ExitCode"] != 137, image.log(container)  # it was not killed
