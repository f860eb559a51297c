"""The `external` engine: servers that somebody else runs, named by SPILLWAY_REDIS_URL and SPILLWAY_DATABASE_URL."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import psycopg
import redis
from psycopg import pq

from infra.errors import SpillwayError, Terminal, Transient, is_transient, one_line
from infra.servers import probe
from infra.servers.engine import SERVICES, Engine, How, Service, ServiceStatus
from infra.servers.host import interact
from infra.servers.schema import schema_is_there
from infra.settings import host_of

_VARIABLE: dict[Service, str] = {"redis": "SPILLWAY_REDIS_URL", "timescaledb": "SPILLWAY_DATABASE_URL"}


class External(Engine):
    """Starts and stops nothing, and removes nothing: it checks, and runs this machine's own clients."""

    name = "external"

    def why_not(self) -> str | None:
        return None

    def runs(self) -> bool:
        return True

    def data(self) -> str | None:
        return None

    def up(self) -> tuple[Service, ...]:
        """Check that both answer and that the schema is there."""
        for service in SERVICES:
            self._version(service)
        seconds = max(1, round(self.settings.connect_timeout))  # libpq takes whole ones, and waits for ever at 0
        try:
            with psycopg.connect(self.settings.database, connect_timeout=seconds) as connection:
                there = schema_is_there(connection)
        except psycopg.Error as error:
            raise self._closed("timescaledb", error) from error
        if not there:
            raise Terminal(
                f"the database at {host_of(self.settings.database)} does not hold Spillway's tables:"
                " run `spillway schema`"
            )
        return ()

    def down(self) -> tuple[Service, ...]:
        raise self._refusal("stop")

    def restart(self) -> None:
        raise self._refusal("restart")

    def start(self, service: Service) -> None:
        raise self._refusal("start")

    def stop(self, service: Service, how: How = "fast") -> None:
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
            " start: do that where they run, or unset it to mean the local servers"
        )

    def status(self) -> list[ServiceStatus]:
        found = []
        for service in SERVICES:
            port = self._address(service)[1]
            try:
                found.append(ServiceStatus(service, "healthy", port, self._version(service), "external"))
            except SpillwayError as error:
                found.append(ServiceStatus(service, "stopped", port, "", "external", note=str(error)))
        return found

    def psql(self, args: Sequence[str]) -> int:
        return interact(["psql", *args], libpq_variables(self.settings.database))

    def redis_cli(self, args: Sequence[str]) -> int:
        options, variables = redis_cli_options(self.settings.redis)
        return interact(["redis-cli", *options, *args], variables)

    def _version(self, service: Service) -> str:
        """What answers at a URL. Raises `Transient` or `Terminal`, in which no part of the URL but the host is."""
        try:
            if service == "redis":
                version = f"Redis {probe.redis_version(self.settings.redis, self.settings.connect_timeout)}"
            else:
                version = probe.database_version(self.settings.database, self.settings.connect_timeout)
        except (psycopg.ProgrammingError, ValueError):
            raise _unreadable(service) from None
        except (psycopg.Error, redis.RedisError) as error:
            raise self._closed(service, error) from error
        return version

    def _closed(self, service: Service, error: Exception) -> SpillwayError:
        host = "{}:{}".format(*self._address(service))
        kind = Transient if is_transient(error) else Terminal
        step = "see that it runs there" if kind is Transient else f"mend {_VARIABLE[service]}"
        return kind(f"{service} at {host} does not let us in: {one_line(error)}; {step}")

    def _address(self, service: Service) -> tuple[str, int]:
        """Host and port, for people to read."""
        try:
            if service == "redis":
                parts = urlsplit(self.settings.redis)
                return parts.hostname or "localhost", parts.port or 6379
            found = libpq_variables(self.settings.database)
            return found.get("PGHOST", "localhost"), int(found.get("PGPORT", "5432").partition(",")[0])
        except ValueError:
            raise _unreadable(service) from None


def _unreadable(service: Service) -> Terminal:
    # Without the parser's own words: they quote the piece that it stumbled over, which may be the password.
    form = "redis://user:password@host:6379/0" if service == "redis" else "postgresql://user:password@host:5432/name"
    return Terminal(f"{_VARIABLE[service]} is not a URL like {form}: mend it, special characters as %40 and the like")


def libpq_variables(url: str) -> dict[str, str]:
    """A database URL as the variables that every libpq client reads, so that no password is in an argument.

    Options without a variable (keepalives and the like) are left out.
    """
    try:
        options = pq.Conninfo.parse(url.encode())
    except psycopg.OperationalError:
        raise _unreadable("timescaledb") from None
    return {
        option.envvar.decode(): option.val.decode()
        for option in options
        if option.envvar is not None and option.val is not None
    }


def redis_cli_options(url: str) -> tuple[list[str], dict[str, str]]:
    """A Redis URL as redis-cli's options, and as variables what must not be in an argument."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise _unreadable("redis") from None
    options = ["-s", parts.path] if parts.scheme == "unix" else ["-h", parts.hostname or "localhost", "-p", str(port)]
    if parts.scheme == "rediss":
        options.append("--tls")
    if parts.scheme != "unix" and parts.path.strip("/"):
        options += ["-n", parts.path.strip("/")]
    if parts.username:
        options += ["--user", unquote(parts.username)]
    return options, {"REDISCLI_AUTH": unquote(parts.password)} if parts.password else {}
