"""The `external` engine: the servers at SPILLWAY_REDIS_URL and SPILLWAY_DATABASE_URL, which run elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import psycopg
import redis
from psycopg import pq

from infra.connections.clients import postgres_connection
from infra.connections.redis_client import primary_address
from infra.connections.redis_connection import UnsupportedServer
from infra.errors.classify import is_transient
from infra.errors.exceptions import SpillwayError, Terminal, Transient
from infra.errors.redact import one_line
from infra.schema.schema_version import check_schema
from infra.servers import probe
from infra.servers.engine import SERVICES, Engine, Service, ServiceStatus, State, StopMode
from infra.servers.host import run_interactively
from infra.settings import host_of
from infra.timescaledb import check_catalog
from infra.urls import read_redis_url

_VARIABLE: dict[Service, str] = {"redis": "SPILLWAY_REDIS_URL", "timescaledb": "SPILLWAY_DATABASE_URL"}


class ExternalEngine(Engine):
    """Starts, stops and removes nothing. It checks the servers and runs the clients of this machine."""

    name = "external"

    def unavailable_reason(self) -> str | None:
        return None

    def runs(self) -> bool:
        return True

    def data(self) -> str | None:
        return None

    def up(self) -> tuple[Service, ...]:
        """Check that both answer and that the schema fits. Both URLs are read first, whichever server is down."""
        for service in SERVICES:
            self._where(service)
        for service in SERVICES:
            self._version(service)
        try:
            with closing(postgres_connection(self.settings)) as connection:
                check_schema(connection)
                check_catalog(connection)
        except psycopg.Error as error:
            raise self._refusal_of("timescaledb", error) from error
        return ()

    def down(self) -> tuple[Service, ...]:
        raise self._refusal("stop")

    def restart(self) -> None:
        raise self._refusal("restart")

    def start(self, service: Service) -> None:
        raise self._refusal("start")

    def stop(self, service: Service, mode: StopMode = "fast") -> None:
        raise self._refusal("stop")

    def logs(self, service: Service | None, follow: bool) -> None:
        raise self._refusal("show the logs of")

    def reset(self) -> None:
        raise self._refusal("remove the data of")

    def _refusal(self, verb: str) -> Terminal:
        urls = {"redis": self.settings.redis_url, "timescaledb": self.settings.database_url}
        named = " and ".join(_VARIABLE[service] for service in SERVICES if urls[service].get_secret_value())
        return Terminal(
            f"{named} {'are' if ' ' in named else 'is'} set, and Spillway does not {verb} servers that it did not"
            " start; do it where they run, or unset the URL to use the local servers"
        )

    def status(self) -> list[ServiceStatus]:
        found = []
        for service in SERVICES:
            port = self._port(service)
            try:
                found.append(ServiceStatus(service, "healthy", port, self._version(service), "external"))
            except SpillwayError as error:
                state: State = "unsupported" if isinstance(error, _Unsupported) else "access denied"
                state = "stopped" if isinstance(error, Transient) else state
                found.append(ServiceStatus(service, state, port, "", "external", note=str(error)))
        return found

    def psql(self, args: Sequence[str]) -> int:
        return run_interactively(["psql", *args], libpq_variables(self.settings.database))

    def redis_cli(self, args: Sequence[str]) -> int:
        found = read_redis_url(self.settings.redis)
        primary = primary_address(self.settings.redis, self.settings.connect_timeout) if found.sentinels else None
        options, variables = found.redis_cli(primary)
        return run_interactively(["redis-cli", *options, *args], variables)

    def _version(self, service: Service) -> str:
        """The version of a server. Raises `Transient` or `Terminal`, which show only the host of its URL."""
        try:
            if service == "redis":
                version = f"Redis {probe.redis_version(self.settings.redis, self.settings.connect_timeout)}"
            else:
                version = probe.database_version(self.settings.database, self.settings.connect_timeout)
        except (psycopg.Error, redis.RedisError) as error:
            raise self._refusal_of(service, error) from error
        return version

    def _refusal_of(self, service: Service, error: Exception) -> SpillwayError:
        server = f"{service} at {self._where(service)}"
        if isinstance(error, _UNSUPPORTED):
            return _Unsupported(f"{server}: {one_line(error)}")
        if is_transient(error):
            return Transient(f"{server} does not accept the connection: {one_line(error)}; check that it runs there")
        return Terminal(f"{server} does not accept the connection: {one_line(error)}; fix {_VARIABLE[service]}")

    def _port(self, service: Service) -> int:
        """The port of the URL or its default; 0 for a socket."""
        port = self._where(service).rpartition(":")[2]
        usual = 6379 if service == "redis" else 5432
        return int(port) if port.isdigit() else 0 if port.startswith("/") else usual

    def _where(self, service: Service) -> str:
        return host_of(self.settings.redis if service == "redis" else self.settings.database)


class _Unsupported(Terminal):
    """Spillway cannot work with this server."""


_UNSUPPORTED = (UnsupportedServer, probe.UnsupportedDatabase)


def libpq_variables(url: str) -> dict[str, str]:
    """A database URL as environment variables of libpq, so that no argument shows a password.

    Options without a variable, such as keepalives, are left out.
    """
    try:
        options = pq.Conninfo.parse(url.encode())
    except psycopg.OperationalError:
        raise Terminal("SPILLWAY_DATABASE_URL: libpq cannot read this URL; fix it") from None
    return {
        option.envvar.decode(): option.val.decode()
        for option in options
        if option.envvar is not None and option.val is not None
    }
