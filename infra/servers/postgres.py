"""PostgreSQL with TimescaleDB as an ordinary process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import psycopg
from psycopg import sql

from infra.connections.session import open_session
from infra.errors.exceptions import Terminal
from infra.errors.redact import one_line
from infra.servers import probe
from infra.servers.engine import How
from infra.servers.host import SOCKET_PATH_LIMIT, Host, User
from infra.servers.server import Server, step_for, telling
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER

_CONF = """\
# Written by `spillway up` at every start; settings of your own belong below its include in postgresql.conf.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
shared_buffers = 256MB
max_wal_size = 2GB
# TimescaleDB's 16 background workers come on top of PostgreSQL's own.
max_worker_processes = 24
# Every chunk that a statement touches takes locks; the default of 64 ends at a few dozen chunks.
max_locks_per_transaction = 512
timezone = 'UTC'
log_timezone = 'UTC'
"""


class Postgres(Server):
    """One cluster. `bin_dir` is the folder with its programs, as the host sees it."""

    service = "timescaledb"

    def __init__(self, host: Host, home: Path, user: User | None, bin_dir: Path) -> None:
        super().__init__(host, home, user)
        self.bin_dir = bin_dir

    def _recorded(self, line: int) -> int | None:
        """A number of postmaster.pid: line 0 is the pid, line 3 the port."""
        lines = self.host.outside(self.data / "postmaster.pid").read_text().splitlines()
        return int(lines[line]) if len(lines) > line else None

    def _recorded_pid(self) -> int | None:
        return self._recorded(0)

    def port(self) -> int | None:
        with contextlib.suppress(OSError):
            return self._recorded(3)
        return None

    def answer(self, port: int) -> str:
        return probe.database_version(probe.local_database(port))

    def launch(self, port: int) -> None:
        self.prepare_home()
        if not self.host.outside(self.data).exists():
            self._initdb()
        if sys.platform == "linux":
            # Nobody is there, `pid` has seen to it; but PostgreSQL takes a zombie of its last life for alive.
            self.host.outside(self.data / "postmaster.pid").unlink(missing_ok=True)
            shutil.rmtree(self.host.outside(self.home / "run"), ignore_errors=True)
        self.host.write(self.data / "spillway.conf", _CONF.format(port=port, sockets=self._sockets(port)), self.user)
        before = self.log_size()
        argv = [str(self.bin_dir / "pg_ctl"), "start", "-D", str(self.data), "-l", str(self.home / "server.log")]
        done = self.host.run([*argv, "-w", "-s", "-t", str(probe.START_LIMIT)], self.user)
        if done.returncode:
            reason = self.telling_line(before) if self.log_size() > before else telling(done.stdout)
            raise Terminal(f"PostgreSQL did not start: {reason} (log: {self.log}){step_for(reason)}")
        self._make_database(port)

    def ask_to_stop(self, pid: int, how: How) -> None:
        # What `pg_ctl stop -m` sends; unlike pg_ctl, it works when the programs are gone.
        os.kill(pid, signal.SIGINT if how == "fast" else signal.SIGQUIT)

    def _sockets(self, port: int) -> str:
        """A folder for the socket that nobody else can enter; none where its path is too long for a socket."""
        folder = self.home / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{port}")) > SOCKET_PATH_LIMIT:
            return ""
        self.host.make_folder(folder, self.user, 0o700)
        return str(folder).replace("'", "''")

    def _initdb(self) -> None:
        """Make the cluster beside its place and rename it, so that a half one is never taken for whole."""
        fresh, password = self.home / "data.new", self.home / "password"
        shutil.rmtree(self.host.outside(fresh), ignore_errors=True)
        self.host.write(password, DATABASE_PASSWORD, self.user)
        try:
            done = self.host.run(
                [
                    str(self.bin_dir / "initdb"),
                    f"--pgdata={fresh}",
                    f"--username={DATABASE_USER}",
                    f"--pwfile={password}",
                    "--auth-host=scram-sha-256",
                    "--auth-local=trust",
                    "--encoding=UTF8",
                    # macOS does not have C.UTF-8; C compares by bytes just so.
                    f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'C'}",
                ],
                self.user,
            )
        finally:
            self.host.outside(password).unlink(missing_ok=True)
        if done.returncode:
            shutil.rmtree(self.host.outside(fresh), ignore_errors=True)
            reason = telling(done.stdout)
            raise Terminal(f"the database cluster could not be made in {self.home}: {reason}{step_for(done.stdout)}")
        with self.host.outside(fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'spillway.conf'\n")
        self.host.outside(fresh).rename(self.host.outside(self.data))

    def _make_database(self, port: int) -> None:
        """Make the database if it is not there: a first start may have been cut off before it."""
        url = probe.local_database(port, "postgres")
        try:
            with contextlib.closing(open_session(url, connect_timeout=probe.PROBE_TIMEOUT)) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    connection.cursor().execute(statement)  # not in a transaction
        except psycopg.Error as error:
            raise Terminal(f"the database {DATABASE} could not be made: {one_line(error)} (log: {self.log})") from error
