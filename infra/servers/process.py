"""The engines without Docker: both servers are ordinary processes on a `Host`."""

from __future__ import annotations

import contextlib
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import psycopg
import redis

from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from infra.output import progress
from infra.servers import logs, marker, ports, probe
from infra.servers.engine import SERVICES, Engine, Service, ServiceStatus, StopMode
from infra.servers.host import Host, User
from infra.servers.lock import instance_lock
from infra.servers.postgres import Postgres
from infra.servers.redis_server import RedisServer
from infra.servers.server import Server, disk_full_step
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER


class ProcessEngine(Engine):
    """The common part of the `system` and `debian` engines, which differ in their paths."""

    @property
    @abstractmethod
    def host(self) -> Host:
        """Where the servers run: this machine, or a root folder."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder of this instance, as the servers see it."""

    @abstractmethod
    def postgres_bin(self) -> Path:
        """The folder of the PostgreSQL programs to use, as the servers see it."""

    @abstractmethod
    def redis_program(self) -> Path:
        """redis-server, as the servers see it."""

    def prepare(self) -> None:
        """Create what is needed before a server can start."""

    def server(self, service: Service) -> Server:
        """A server with its user and programs, to be started."""
        if service == "redis":
            return RedisServer(
                self.host, self.folder / "redis", self.host.user("redis", "nobody"), self.redis_program()
            )
        return Postgres(
            self.host, self.folder / "timescaledb", self.host.user("postgres", "nobody"), self.postgres_bin()
        )

    def _existing(self, service: Service) -> Server:
        """A server that is inspected or stopped, but not started: its programs need not exist any more."""
        nowhere = Path("/nonexistent")
        if service == "redis":
            return RedisServer(self.host, self.folder / "redis", None, nowhere)
        return Postgres(self.host, self.folder / "timescaledb", None, nowhere)

    def runs(self) -> bool:
        return any(self._existing(service).pid() is not None for service in SERVICES)

    def data(self) -> str | None:
        folder = self.host.outside(self.folder)
        return str(folder) if folder.exists() else None

    def up(self) -> tuple[Service, ...]:
        with instance_lock(self.settings):
            self.prepare()
            for service in SERVICES:
                # Check both before starting one: half an instance is worse than none.
                if self._existing(service).pid() is None:
                    ports.require_free_port(service, self._configured_port(service))
            started = tuple(service for service in SERVICES if self._start(service))
            marker.write(self.settings, self.name)
            return started

    def down(self) -> tuple[Service, ...]:
        with instance_lock(self.settings):
            return tuple(service for service in SERVICES if self._stop(service, "fast"))

    def start(self, service: Service) -> None:
        with instance_lock(self.settings):
            self.prepare()
            self._start(service)

    def stop(self, service: Service, mode: StopMode = "fast") -> None:
        with instance_lock(self.settings):
            self._stop(service, mode)

    def _configured_port(self, service: Service) -> int:
        return self.settings.redis_port if service == "redis" else self.settings.postgres_port

    def _start(self, service: Service) -> bool:
        """Start a server if it does not run, and wait until it answers. Returns whether it was started."""
        server = self.server(service)
        port = self._configured_port(service)
        runs = server.pid() is not None
        if runs:
            ports.require_same_port(service, server.port() or port, port, self.settings.instance)
        before = server.log_size()
        if not runs:
            ports.require_free_port(service, port)
            progress(f"starting {service} on port {port}")
            server.launch(port)
        failure = probe.wait_until_answers(lambda: server.answer(port), lambda: server.pid() is not None)
        if failure:
            line = server.failure_line(before)
            raise Terminal(
                f"{service} did not start: {failure}; its log: {line} (full log: {server.log}){disk_full_step(line)}"
            )
        return not runs

    def _stop(self, service: Service, mode: StopMode) -> bool:
        """Stop a server and wait until it has ended. Returns whether it ran."""
        server = self._existing(service)
        if server.pid() is None:
            return False
        server.stop(mode)
        return True

    def status(self) -> list[ServiceStatus]:
        return [self._status(service) for service in SERVICES]

    def _status(self, service: Service) -> ServiceStatus:
        server = self._existing(service)
        configured = self._configured_port(service)
        data = str(self.host.outside(server.data))
        if server.pid() is None:
            return ServiceStatus(service, "stopped", configured, "", data)
        port = server.port() or configured
        try:
            return ServiceStatus(service, "healthy", port, server.answer(port), data)
        except (psycopg.Error, redis.RedisError) as error:
            return ServiceStatus(service, "running", port, "", data, note=one_line(error))

    def logs(self, service: Service | None, follow: bool) -> None:
        wanted = SERVICES if service is None else (service,)
        logs.show({name: self._existing(name).log for name in wanted}, follow)

    def reset(self) -> None:
        with instance_lock(self.settings, remove=True):
            for service in SERVICES:
                # The data is about to be removed, so no orderly end is needed; a broken server could not provide one.
                self._stop(service, "immediate")
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self.host.outside(self.folder))
            marker.remove(self.settings)

    def psql(self, args: Sequence[str]) -> int:
        variables = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self._port_of("timescaledb")),
            "PGUSER": DATABASE_USER,
            "PGPASSWORD": DATABASE_PASSWORD,
            "PGDATABASE": DATABASE,
        }
        return self.host.run_interactively(
            [str(self.postgres_bin() / "psql"), *args], self._client_user("postgres"), variables
        )

    def redis_cli(self, args: Sequence[str]) -> int:
        program = self.redis_program().with_name("redis-cli")
        argv = [str(program), "-h", "127.0.0.1", "-p", str(self._port_of("redis")), *args]
        return self.host.run_interactively(argv, self._client_user("redis"), {})

    def _client_user(self, name: str) -> User | None:
        return self.host.user(name) if self.host.is_chroot else None

    def _port_of(self, service: Service) -> int:
        """The port of the running server. The settings may have changed since, and would lead to another server."""
        server = self._existing(service)
        port = server.port()
        if server.pid() is None or port is None:
            raise self.not_running(service)
        return port
