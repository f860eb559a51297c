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
from infra.servers.engine import SERVICES, Engine, How, Service, ServiceStatus
from infra.servers.host import interact
from infra.servers.lock import working
from infra.servers.server import STOP_LIMIT, telling
from infra.settings import DATABASE, DATABASE_USER, PROJECT_ROOT, Settings

COMPOSE_FILE = PROJECT_ROOT / "infra/compose.yaml"
ASK_TIMEOUT = 20  # seconds for an engine that may be just waking up
PULL_TIMEOUT = 1800  # seconds: 400 MB of images at the first `up`
# Docker asks a server to stop, and kills it after the stop_grace_period of infra/compose.yaml.
STOP_TIMEOUT = STOP_LIMIT + ASK_TIMEOUT
# Of a container that dies again and again Docker says restarting: it is not stopped, and holds its port.
_ALIVE = ("running", "restarting", "paused")
DEFAULT_INSTANCE = "analytics"


class DockerEngine(Engine):
    """Both servers as containers. The truth is Docker's: nothing is remembered about them elsewhere."""

    name = "docker"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Without -p, compose takes the folder's name: so `docker compose` in infra/ and `spillway` mean the same.
        folder = COMPOSE_FILE.parent.name
        self.project = folder if settings.instance == DEFAULT_INSTANCE else f"{folder}-{settings.instance}"

    def container(self, service: Service) -> str:
        """The container's name."""
        return f"{self.settings.instance}-{service}"

    def why_not(self) -> str | None:
        if not shutil.which("docker"):
            return "docker is not on this machine"
        done = self._docker("version", "--format", "{{.Server.Version}}")
        if done is None or done.returncode:
            return "the Docker engine does not answer: start it, and see that you may use it (group docker)"
        if not self._compose_command():
            return "neither `docker compose` nor docker-compose is on this machine"
        return None

    def runs(self) -> bool:
        return any(self._state(service) in _ALIVE for service in SERVICES)

    def data(self) -> str | None:
        done = self._docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.project}")
        volumes = done.stdout.split() if done and not done.returncode else []
        return f"Docker volumes {', '.join(volumes)}" if volumes else None

    def up(self) -> tuple[Service, ...]:
        with working(self.settings):
            stopped = tuple(service for service in SERVICES if self._needs_start(service))
            if stopped:
                progress("docker compose up")
                self._compose("up", "-d")
            for service in SERVICES:
                self._wait(service)
            marker.write(self.settings, self.name)
            return stopped

    def down(self) -> tuple[Service, ...]:
        with working(self.settings):
            ran = tuple(service for service in SERVICES if self._state(service) in _ALIVE)
            self._compose("down")
            return ran

    def start(self, service: Service) -> None:
        with working(self.settings):
            if self._needs_start(service):
                # Compose also makes a container that is not there, or is of an older compose file.
                self._compose("up", "-d", service)
            self._wait(service)

    def stop(self, service: Service, how: How = "fast") -> None:
        with working(self.settings):
            if self._state(service) in _ALIVE:
                self._demand("stop" if how == "fast" else "kill", self.container(service))

    def _needs_start(self, service: Service) -> bool:
        """Whether it does not run. Raises `Terminal` if it runs on another port, or if its port is taken."""
        wanted = self._port(service)
        if self._state(service) in _ALIVE:
            ports.demand_same(service, self._published_port(service) or wanted, wanted, self.settings.instance)
            return False
        ports.demand_free(service, wanted)
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
            raise Terminal("no container, no log: `spillway down` removes both, and `spillway up` makes new ones")
        argv = ["logs", *(["-f"] if follow else []), *([service] if service else [])]
        interact([*self._compose_argv(), *argv], self._variables())

    def reset(self) -> None:
        with working(self.settings):
            # What is about to be removed needs no orderly end, and a first start that was cut off would take its whole
            # stop_grace_period: the images' entrypoint passes no signal on.
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
        return interact(["docker", "exec", terminal, self.container(service), *argv], {})

    def _port(self, service: Service) -> int:
        return self.settings.redis_port if service == "redis" else self.settings.postgres_port

    def _answer(self, service: Service, port: int) -> str:
        if service == "redis":
            return f"Redis {probe.redis_version(probe.local_redis(port))}"
        return probe.database_version(probe.local_database(port))

    def _wait(self, service: Service) -> None:
        failure = probe.wait_until_answers(
            # A restarting container counts as alive: compose starts it again until the limit.
            lambda: self._answer(service, self._port(service)),
            lambda: self._state(service) in (*_ALIVE, "created"),
        )
        if failure:
            done = self._docker("logs", "--tail", "50", self.container(service))
            log = telling(done.stdout + done.stderr) if done else "(no log)"
            raise Terminal(f"{service} did not start: {failure}; its log says: {log}")

    def _state(self, service: Service) -> str | None:
        """Docker's word for the container: running, exited, …; None if there is none."""
        return self._inspect(service, "{{.State.Status}}")

    def _published_port(self, service: Service) -> int | None:
        """The port of this machine that the container was made with."""
        port = self._inspect(service, "{{range .HostConfig.PortBindings}}{{(index . 0).HostPort}}{{end}}")
        return int(port) if port else None

    def _inspect(self, service: Service, template: str) -> str | None:
        """What Docker knows of the container, by a Go template; None if there is none."""
        done = self._docker("container", "inspect", "--format", template, self.container(service))
        return done.stdout.strip() if done and not done.returncode else None

    def _docker(self, *args: str, timeout: float = ASK_TIMEOUT) -> subprocess.CompletedProcess[str] | None:
        """Ask docker; None if there is no docker or it does not answer."""
        try:
            return subprocess.run(["docker", *args], capture_output=True, text=True, timeout=timeout, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None

    def _demand(self, *args: str) -> None:
        done = self._docker(*args, timeout=STOP_TIMEOUT)
        if done is None or done.returncode:
            raise Terminal(f"`docker {' '.join(args)}` failed: {telling(done.stderr) if done else 'no answer'}")

    def _compose_command(self) -> list[str] | None:
        done = self._docker("compose", "version")
        if done and not done.returncode:
            return ["docker", "compose"]
        return ["docker-compose"] if shutil.which("docker-compose") else None

    def _compose_argv(self) -> list[str]:
        command = self._compose_command()
        if command is None:
            raise Terminal("neither `docker compose` nor docker-compose is on this machine: install one of them")
        return [*command, "-f", str(COMPOSE_FILE), "-p", self.project]

    def _variables(self) -> dict[str, str]:
        """The settings for the compose file: compose itself knows no .env but the one beside its file."""
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
            # Compose says its progress first and the error last; 1.29 adds a line that says nothing.
            lines = [line.strip() for line in done.stderr.splitlines()]
            said = [line for line in lines if line and "Encountered errors while bringing up" not in line]
            raise Terminal(f"`docker compose {' '.join(args)}` failed: {said[-1] if said else 'no reason given'}")
