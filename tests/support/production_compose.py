"""infra/compose.production.yaml as a user starts it: Compose v2, Podman instead of Docker, and stand-ins for images.

Podman runs health checks only where there is a systemd, so a thread of the test runs them, as Docker does.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from infra.settings import PROJECT_ROOT, Settings
from tests.support.production_image import IMAGE
from tests.support.proxy import Proxy
from tests.support.stand_in_images import Podman, bridges

PRODUCTION_FILE = PROJECT_ROOT / "infra/compose.production.yaml"
SECRETS_SCRIPT = PROJECT_ROOT / "infra/containers/secrets.sh"
_DATABASE_IMAGE = "docker.io/library/postgres:17"
_HOST = "host.containers.internal"  # the name that containers have for this machine
_UP_SECONDS = 600
_CHECK = "{{json .Config.Healthcheck.Test}}"
_NOT_HEALTHY = ("--filter", "health=starting", "--filter", "health=unhealthy")


class Production:
    """One project of Compose."""

    def __init__(self, podman: Podman, variables: Mapping[str, str]) -> None:
        self.podman = podman
        self._project = f"production-{uuid.uuid4().hex[:8]}"
        self._environment = os.environ | podman.variables("v2") | variables
        self._ended = threading.Event()

    def compose(self, *args: str) -> str:
        """The output of `docker compose ARGS`, which has to succeed."""
        argv = ["docker", "compose", "-f", str(PRODUCTION_FILE), "-p", self._project, *args]
        done = subprocess.run(
            argv, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_UP_SECONDS
        )
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The last lines of each container."""
        containers = self.podman.run("ps", "--all", "--format", "{{.Names}}").split()
        shown = []
        for name in containers:
            argv = ["podman", "logs", "--tail", "30", name]
            done = subprocess.run(argv, env=self.podman.environment, capture_output=True, text=True)
            shown.append(f"== {name}\n{done.stdout}{done.stderr}")
        return "\n".join(shown)

    def inspect(self, service: str) -> dict[str, Any]:
        """What Podman knows of the container of a service."""
        container = self.compose("ps", "--all", "--quiet", service).strip()
        found: dict[str, Any] = json.loads(self.podman.run("container", "inspect", container))[0]
        return found

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Run the health checks of each container until it is healthy, as long as the block runs."""
        thread = threading.Thread(target=self._check, name="health checks")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _check(self) -> None:
        while not self._ended.wait(1):
            for container in self._podman("ps", "--quiet", *_NOT_HEALTHY).stdout.split():
                # After some failures Compose would give up, however slow the machine is: only a success is recorded.
                kind, *words = json.loads(self._podman("inspect", "--format", _CHECK, container).stdout or '["CMD"]')
                command = words if kind == "CMD" else ["/bin/sh", "-c", *words]
                if command and self._podman("exec", container, *command).returncode == 0:
                    self._podman("healthcheck", "run", container)

    def _podman(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGS`, which may fail: a container can end at any moment."""
        return subprocess.run(["podman", *args], env=self.podman.environment, capture_output=True, text=True)


@contextmanager
def production(podman: Podman, folder: Path, settings: Settings, **variables: str) -> Iterator[Production]:
    """A project that is not up yet, whose Redis and TimescaleDB are those of `settings`."""
    secrets = folder / "secrets"
    subprocess.run([SECRETS_SCRIPT, secrets], check=True, capture_output=True)
    podman.run("tag", "docker.io/timescale/timescaledb:2.29.2-pg16", _DATABASE_IMAGE)
    with ExitStack() as stack:
        stack.enter_context(bridges())
        for name, url in (("redis_url", settings.redis), ("database_url", settings.database)):
            # The servers of the tests listen on 127.0.0.1, which is another one in a container.
            parts = urlsplit(url)
            assert parts.hostname is not None
            assert parts.port is not None
            proxy = stack.enter_context(Proxy(parts.hostname, parts.port, listen="0.0.0.0"))  # noqa: S104
            users, at, _ = parts.netloc.rpartition("@")
            file = secrets / name
            file.write_text(urlunsplit(parts._replace(netloc=f"{users}{at}{_HOST}:{proxy.port}")) + "\n")
            file.chmod(0o444)
        own = {"SPILLWAY_IMAGE": IMAGE, "SPILLWAY_SECRETS": str(secrets), "SPILLWAY_LOG_DRIVER": "k8s-file"}
        project = Production(podman, own | variables)
        try:
            with project.checked():
                yield project
        finally:
            project.compose("down", "--volumes", "--timeout", "0")
