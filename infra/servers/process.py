"""The engines without Docker: both servers as ordinary processes of a `Host`."""

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
from infra.servers.engine import SERVICES, Engine, How, Service, ServiceStatus
from infra.servers.host import Host, User
from infra.servers.lock import working
from infra.servers.postgres import Postgres
from infra.servers.redis_server import RedisServer
from infra.servers.server import Server, step_for
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER


class ProcessEngine(Engine):
    """What is the same on this machine and in a Debian root; the two say where things are."""

    @property
    @abstractmethod
    def host(self) -> Host:
        """Where the servers run."""

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
        """Make what must be there before anything can be started."""

    def server(self, service: Service) -> Server:
        """One of the two, to be started."""
        if service == "redis":
            return RedisServer(
                self.host, self.folder / "redis", self.host.user("redis", "nobody"), self.redis_program()
            )
        return Postgres(
            self.host, self.folder / "timescaledb", self.host.user("postgres", "nobody"), self.postgres_bin()
        )

    def _seen(self, service: Service) -> Server:
        """One of the two, only to be looked at: works too where its programs are not there (any more)."""
        nowhere = Path("/nonexistent")
        if service == "redis":
            return RedisServer(self.host, self.folder / "redis", None, nowhere)
        return Postgres(self.host, self.folder / "timescaledb", None, nowhere)

    def runs(self) -> bool:
        return any(self._seen(service).pid() is not None for service in SERVICES)

    def data(self) -> str | None:
        folder = self.host.outside(self.folder)
        return str(folder) if folder.exists() else None

    def up(self) -> tuple[Service, ...]:
        with working(self.settings):
            self.prepare()
            for service in SERVICES:
                # Both before either is started: half an instance is worse than none.
                if self._seen(service).pid() is None:
                    ports.demand_free(service, self._wanted_port(service))
            started = tuple(service for service in SERVICES if self._start(service))
            marker.write(self.settings, self.name)
            return started

    def down(self) -> tuple[Service, ...]:
        with working(self.settings):
            return tuple(service for service in SERVICES if self._stop(service, "fast"))

    def start(self, service: Service) -> None:
        with working(self.settings):
            self.prepare()
            self._start(service)

    def stop(self, service: Service, how: How = "fast") -> None:
        with working(self.settings):
            self._stop(service, how)

    def _wanted_port(self, service: Service) -> int:
        return self.settings.redis_port if service == "redis" else self.settings.postgres_port

    def _start(self, service: Service) -> bool:
        """Start one if it does not run, and wait until it answers. Whether it had to be started."""
        server = self.server(service)
        port = self._wanted_port(service)
        runs = server.pid() is not None
        if runs:
            ports.demand_same(service, server.port() or port, port, self.settings.instance)
        before = server.log_size()
        if not runs:
            ports.demand_free(service, port)
            progress(f"starting {service} on port {port}")
            server.launch(port)
        failure = probe.wait_until_answers(lambda: server.answer(port), lambda: server.pid() is not None)
        if failure:
            line = server.telling_line(before)
            raise Terminal(
                f"{service} did not start: {failure}; its log says: {line} (log: {server.log}){step_for(line)}"
            )
        return not runs

    def _stop(self, service: Service, how: How) -> bool:
        """Stop one and wait until it is gone. Whether it ran."""
        server = self._seen(service)
        if server.pid() is None:
            return False
        server.stop(how)
        return True

    def status(self) -> list[ServiceStatus]:
        return [self._status(service) for service in SERVICES]

    def _status(self, service: Service) -> ServiceStatus:
        server = self._seen(service)
        wanted = self._wanted_port(service)
        data = str(self.host.outside(server.data))
        if server.pid() is None:
            return ServiceStatus(service, "stopped", wanted, "", data)
        port = server.port() or wanted
        try:
            return ServiceStatus(service, "healthy", port, server.answer(port), data)
        except (psycopg.Error, redis.RedisError) as error:
            return ServiceStatus(service, "running", port, "", data, note=one_line(error))

    def logs(self, service: Service | None, follow: bool) -> None:
        wanted = SERVICES if service is None else (service,)
        logs.show({name: self._seen(name).log for name in wanted}, follow)

    def reset(self) -> None:
        with working(self.settings):
            for service in SERVICES:
                # What is about to be removed needs no orderly end, and a broken one could not give it.
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
        return self.host.interact([str(self.postgres_bin() / "psql"), *args], self._client_user("postgres"), variables)

    def redis_cli(self, args: Sequence[str]) -> int:
        program = self.redis_program().with_name("redis-cli")
        argv = [str(program), "-h", "127.0.0.1", "-p", str(self._port_of("redis")), *args]
        return self.host.interact(argv, self._client_user("redis"), {})

    def _client_user(self, name: str) -> User | None:
        return self.host.user(name) if self.host.entered else None

    def _port_of(self, service: Service) -> int:
        """The port of a running server: a changed setting must not lead a client to somebody else's."""
        server = self._seen(service)
        port = server.port()
        if server.pid() is None or port is None:
            raise self.not_running(service)
        return port
