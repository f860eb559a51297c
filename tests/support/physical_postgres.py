"""Servers of PostgreSQL that are copied as files: from a base backup, to a point in time, or as a standby."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from infra.servers.engine import Engine
from infra.servers.postgres import Postgres
from infra.servers.probe import local_database
from infra.servers.process import ProcessEngine
from tests.support.ports import free_port
from tests.support.waiting import wait_until

# One server on the machine of the tests: the files of a server that is killed are complete without it.
_COMMON = {"fsync": "off", "shared_buffers": "64MB", "max_wal_senders": "8", "hot_standby": "on"}


class PhysicalPostgres(Postgres):
    """A server of one test, in a folder next to those of `engine`, on a port of its own, with settings of its own."""

    def __init__(self, engine: ProcessEngine, name: str, **settings: str) -> None:
        user = engine.host.user("postgres", "nobody")
        super().__init__(engine.host, engine.folder / "physical" / name, user, engine.postgres_bin())
        self._library = "timescaledb" in engine.server("timescaledb").conf(1)  # type: ignore[attr-defined]
        self.settings: Mapping[str, str] = settings
        self.number = free_port()

    @property
    def url(self) -> str:
        return local_database(self.number)

    def conf(self, port: int) -> str:
        lines = [f"{name} = '{value}'\n" for name, value in {**_COMMON, **self.settings}.items()]
        common = super().conf(port).splitlines(True)
        return "".join([*(line for line in common if self._library or "timescaledb" not in line), *lines])

    def up(self) -> None:
        """Start it; the first time, create it unless it is a copy."""
        self.launch(self.number)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.url, autocommit=True)

    def copy_of(self, source: PhysicalPostgres, *options: str) -> None:
        """Make its files by pg_basebackup from a server that runs."""
        self.prepare_home()
        backup = ("pg_basebackup", "--checkpoint=fast", f"--pgdata={self.data}", f"--dbname={source.url}", *options)
        self.program(*backup)

    def write(self, name: str, text: str) -> None:
        """Write a file into its data folder."""
        self.host.write(self.data / name, text, self.user)

    def create_files(self) -> None:
        """Create an empty server that is not started, and has no database yet."""
        self.prepare_home()
        self._initdb()
        self.write("spillway.conf", self.conf(self.number))

    def program(self, name: str, *arguments: str, folder: Path = Path("/")) -> str:
        """The output of a program of PostgreSQL, run as the server's user in a folder."""
        moved = ["sh", "-c", 'cd "$0" && exec "$@"', str(folder)]
        done = self.host.run([*moved, str(self.bin_dir / name), *arguments], self.user)
        logs = "".join(log.read_text()[-4000:] for log in self.host.outside(self.data).rglob("pg_upgrade_dump_*.log"))
        assert done.returncode == 0, done.stdout + logs
        return done.stdout

    def folder(self, name: str) -> Path:
        """A folder that the server can write to."""
        found = self.home / name
        self.prepare_home()
        self.host.make_folder(found, self.user, 0o700)
        return found

    def promoted(self) -> None:
        """Wait until it accepts writes."""
        self.wait_for("SELECT NOT pg_is_in_recovery()")

    def wait_for(self, query: str) -> None:
        """Wait until a query returns true."""

        def holds() -> bool:
            with suppress(psycopg.OperationalError), self.connect() as connection:
                return connection.execute(query.encode()).fetchone() == (True,)
            return False

        wait_until(holds, shown=lambda: f"{query}: {self.failure_line(0)}")


class PhysicalServers:
    """The servers of a block, in folders next to those of `engine`."""

    def __init__(self, engine: Engine | None) -> None:
        assert isinstance(engine, ProcessEngine), "expected servers that are processes of this machine"
        self._engine = engine
        self._made: list[PhysicalPostgres] = []

    def new(self, name: str, **settings: str) -> PhysicalPostgres:
        """A server that is not started yet."""
        self._made.append(PhysicalPostgres(self._engine, name, **settings))
        return self._made[-1]

    def remove(self) -> None:
        """Stop all of them, and remove their files."""
        for server in self._made:
            server.stop("kill")
            shutil.rmtree(server.host.outside(server.home), ignore_errors=True)


@contextmanager
def physical_servers(engine: Engine | None) -> Iterator[PhysicalServers]:
    servers = PhysicalServers(engine)
    try:
        yield servers
    finally:
        servers.remove()
