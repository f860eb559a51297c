"""The `docker` engine: infra/compose.yaml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

import psycopg
import redis

from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from infra.output import progress
from infra.servers import marker, ports, probe
from infra.servers.engine import SERVICES, Engine, Service, ServiceStatus, StopMode
from infra.servers.host import run_interactively
from infra.servers.lock import instance_lock
from infra.servers.server import STOP_LIMIT, failure_line
from infra.settings import DATABASE, DATABASE_USER, PROJECT_ROOT, Settings

COMPOSE_FILE = PROJECT_ROOT / "infra/compose.yaml"
ASK_TIMEOUT = 20  # seconds for a Docker daemon that may be just starting
PULL_TIMEOUT = 1800  # seconds: the first `up` downloads 400 MB of images
# Docker asks a server to stop, and kills it after the stop_grace_period of infra/compose.yaml.
STOP_TIMEOUT = STOP_LIMIT + ASK_TIMEOUT
# `restarting`: a container that keeps failing. It is not stopped, and holds its port.
_ALIVE = ("running", "restarting", "paused")
DEFAULT_INSTANCE = "analytics"


class DockerEngine(Engine):
    """Both servers as containers. Docker is asked for their state; nothing about them is stored elsewhere."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # The folder's name is Compose's default: `docker compose` in infra/ and `spillway` use the same project.
        folder = COMPOSE_FILE.parent.name
        self.project = folder if settings.instance == DEFAULT_INSTANCE else f"{folder}-{settings.instance}"

    def container(self, service: Service) -> str:
        """The container's name."""
        return f"{self.settings.instance}-{service}"

    def unavailable_reason(self) -> str | None:
        if not shutil.which("docker"):
            return "docker is not installed"
        done = self._docker("version", "--format", "{{.Server.Version}}")
        if done is None or done.returncode:
            return "the Docker daemon does not answer; start it, and check that you may use it (group docker)"
        if not self._compose_command():
            return "neither `docker compose` nor docker-compose is installed"
        return None

    def runs(self) -> bool:
        return any(self._state(service) in _ALIVE for service in SERVICES)

    def data(self) -> str | None:
        done = self._docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.project}")
        volumes = done.stdout.split() if done and not done.returncode else []
        return f"Docker volumes {', '.join(volumes)}" if volumes else None

    def up(self) -> tuple[Service, ...]:
        with instance_lock(self.settings):
            stopped = tuple(service for service in SERVICES if self._needs_start(service))
            if stopped:
                progress("docker compose up")
                self._compose("up", "-d")
            for service in SERVICES:
                self._wait(service)
            marker.write(self.settings, self.name)
            return stopped

    def down(self) -> tuple[Service, ...]:
        with instance_lock(self.settings):
            ran = tuple(service for service in SERVICES if self._state(service) in _ALIVE)
            self._compose("down")
            return ran

    def start(self, service: Service) -> None:
        with instance_lock(self.settings):
            if self._needs_start(service):
                # Compose also creates a missing container, and replaces one of an older compose file.
                self._compose("up", "-d", service)
            self._wait(service)

    def stop(self, service: Service, mode: StopMode = "fast") -> None:
        with instance_lock(self.settings):
            if self._state(service) in _ALIVE:
                self._require("stop" if mode == "fast" else "kill", self.container(service))

    def _needs_start(self, service: Service) -> bool:
        """Whether it is stopped. Raises `Terminal` if it runs on another port, or if its port is in use."""
        configured = self._port(service)
        if self._state(service) in _ALIVE:
            ports.require_same_port(
                service, self._published_port(service) or configured, configured, self.settings.instance
            )
            return False
        ports.require_free_port(service, configured)
        return True

    def status(self) -> list[ServiceStatus]:
        return [self._status(service) for service in SERVICES]

    def _status(self, service: Service) -> ServiceStatus:
        port = self._port(service)
        volume = f"{self.project}_{'redis-data' if service == 'redis' else 'timescale-data'}"
        if self._state(service) not in _ALIVE:
            return ServiceStatus(service, "stopped", port, "", volume)
        port = self._published_port(service) or port
        try:
            return ServiceStatus(service, "healthy", port, self._answer(service, port), volume)
        except (psycopg.Error, redis.RedisError) as error:
            return ServiceStatus(service, "running", port, "", volume, note=one_line(error))

    def logs(self, service: Service | None, follow: bool) -> None:
        if not any(self._state(one) for one in ([service] if service else SERVICES)):
            raise Terminal(
                "there is no container and so no log: `spillway down` removed both; `spillway up` creates new ones"
            )
        argv = ["logs", *(["-f"] if follow else []), *([service] if service else [])]
        run_interactively([*self._compose_argv(), *argv], self._variables())

    def reset(self) -> None:
        with instance_lock(self.settings, remove=True):
            # The data is about to be removed, so no orderly end is needed. An interrupted first start would take its
            # whole stop_grace_period, because the images' entrypoint passes no signal on.
            self._compose("down", "-v", "-t", "0")
            marker.remove(self.settings)

    def psql(self, args: Sequence[str]) -> int:
        return self._exec("timescaledb", ["psql", "-U", DATABASE_USER, "-d", DATABASE, *args])

    def redis_cli(self, args: Sequence[str]) -> int:
        return self._exec("redis", ["redis-cli", *args])

    def _exec(self, service: Service, argv: Sequence[str]) -> int:
        if self._state(service) != "running":
            raise self.not_running(service)
        terminal = "-it" if sys.stdin.isatty() and sys.stdout.isatty() else "-i"
        return run_interactively(["docker", "exec", terminal, self.container(service), *argv], {})

    def _port(self, service: Service) -> int:
        return self.settings.redis_port if service == "redis" else self.settings.postgres_port

    def _answer(self, service: Service, port: int) -> str:
        if service == "redis":
            return f"Redis {probe.redis_version(probe.local_redis(port))}"
        return probe.database_version(probe.local_database(port))

    def _wait(self, service: Service) -> None:
        failure = probe.wait_until_answers(
            # A restarting container counts as alive: Docker restarts it until the time limit.
            lambda: self._answer(service, self._port(service)),
            lambda: self._state(service) in (*_ALIVE, "created"),
        )
        if failure:
            done = self._docker("logs", "--tail", "50", self.container(service))
            log = failure_line(done.stdout + done.stderr) if done else "(no log)"
            raise Terminal(f"{service} did not start: {failure}; its log: {log}")

    def _state(self, service: Service) -> str | None:
        """The state of the container in Docker's words: running, exited, …; None if it does not exist."""
        return self._inspect(service, "{{.State.Status}}")

    def _published_port(self, service: Service) -> int | None:
        """The port of this machine that the container was created with."""
        port = self._inspect(service, "{{range .HostConfig.PortBindings}}{{(index . 0).HostPort}}{{end}}")
        return int(port) if port else None

    def _inspect(self, service: Service, template: str) -> str | None:
        """A Go template filled with what Docker knows of the container; None if it does not exist."""
        done = self._docker("container", "inspect", "--format", template, self.container(service))
        return done.stdout.strip() if done and not done.returncode else None

    def _docker(self, *args: str, timeout: float = ASK_TIMEOUT) -> subprocess.CompletedProcess[str] | None:
        """Run a docker command; None if docker is not installed or does not answer."""
        try:
            return subprocess.run(["docker", *args], capture_output=True, text=True, timeout=timeout, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None

    def _require(self, *args: str) -> None:
        done = self._docker(*args, timeout=STOP_TIMEOUT)
        if done is None or done.returncode:
            raise Terminal(f"`docker {' '.join(args)}` failed: {failure_line(done.stderr) if done else 'no answer'}")

    def _compose_command(self) -> list[str] | None:
        done = self._docker("compose", "version")
        if done and not done.returncode:
            return ["docker", "compose"]
        return ["docker-compose"] if shutil.which("docker-compose") else None

    def _compose_argv(self) -> list[str]:
        command = self._compose_command()
        if command is None:
            raise Terminal("neither `docker compose` nor docker-compose is installed; install one of them")
        return [*command, "-f", str(COMPOSE_FILE), "-p", self.project]

    def _variables(self) -> dict[str, str]:
        """The settings for the compose file. Compose itself reads only the .env next to its file."""
        return {
            "SPILLWAY_INSTANCE": self.settings.instance,
            "SPILLWAY_REDIS_PORT": str(self.settings.redis_port),
            "SPILLWAY_POSTGRES_PORT": str(self.settings.postgres_port),
        }

    def _compose(self, *args: str) -> None:
        done = subprocess.run(
            [*self._compose_argv(), *args],
            env={**os.environ, **self._variables()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PULL_TIMEOUT,
            check=False,
        )
        if done.returncode:
            # Compose prints the error last; 1.29 adds a line that explains nothing.
            lines = [line.strip() for line in done.stderr.splitlines()]
            errors = [line for line in lines if line and "Encountered errors while bringing up" not in line]
            raise Terminal(f"`docker compose {' '.join(args)}` failed: {errors[-1] if errors else 'no reason given'}")
