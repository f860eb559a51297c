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
from infra.servers.engine import StopMode
from infra.servers.host import SOCKET_PATH_LIMIT, Host, User
from infra.servers.server import Server, disk_full_step, failure_line
from infra.settings import DATABASE, DATABASE_PASSWORD, DATABASE_USER

_CONF = """\
# Written by `spillway up` at every start. Put your own settings below the include of this file in postgresql.conf.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = off
shared_buffers = 256MB
max_wal_size = 2GB
# TimescaleDB's 16 background workers come on top of PostgreSQL's own.
max_worker_processes = 24
# Every chunk that a statement touches takes locks: the default of 64 is used up by a few dozen chunks.
max_locks_per_transaction = 512
timezone = 'UTC'
log_timezone = 'UTC'
"""


class Postgres(Server):
    """One cluster. `bin_dir`: the folder of its programs, as the host sees it."""

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
            # `pid` found no server, but PostgreSQL takes a zombie of an earlier run for a live one.
            self.host.outside(self.data / "postmaster.pid").unlink(missing_ok=True)
            shutil.rmtree(self.host.outside(self.home / "run"), ignore_errors=True)
        self.host.write(self.data / "spillway.conf", self.conf(port), self.user)
        before = self.log_size()
        argv = [str(self.bin_dir / "pg_ctl"), "start", "-D", str(self.data), "-l", str(self.home / "server.log")]
        done = self.host.run([*argv, "-w", "-s", "-t", str(probe.START_LIMIT)], self.user)
        if done.returncode:
            reason = self.failure_line(before) if self.log_size() > before else failure_line(done.stdout)
            raise Terminal(f"PostgreSQL did not start: {reason} (full log: {self.log}){disk_full_step(reason)}")
        self._create_database(port)

    def conf(self, port: int) -> str:
        """The settings of the server."""
        return _CONF.format(port=port, sockets=self._sockets(port))

    def request_stop(self, pid: int, mode: StopMode) -> None:
        # The signals of `pg_ctl stop -m`. Unlike pg_ctl, they work after the programs were removed.
        os.kill(pid, signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    def _sockets(self, port: int) -> str:
        """A folder for the socket that no other user can enter; empty if its path is too long for a socket."""
        folder = self.home / "run"
        if len(os.fsencode(folder / f".s.PGSQL.{port}")) > SOCKET_PATH_LIMIT:
            return ""
        self.host.make_folder(folder, self.user, 0o700)
        return str(folder).replace("'", "''")

    def _initdb(self) -> None:
        """Create the cluster under another name and rename it, so that it exists completely or not at all."""
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
                    # macOS has no C.UTF-8; C also compares by bytes.
                    f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'C'}",
                ],
                self.user,
            )
        finally:
            self.host.outside(password).unlink(missing_ok=True)
        if done.returncode:
            shutil.rmtree(self.host.outside(fresh), ignore_errors=True)
            reason = failure_line(done.stdout)
            raise Terminal(
                f"the database cluster could not be created in {self.home}: {reason}{disk_full_step(done.stdout)}"
            )
        with self.host.outside(fresh / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'spillway.conf'\n")
        self.host.outside(fresh).rename(self.host.outside(self.data))

    def _create_database(self, port: int) -> None:
        """Create the database if it is missing: a first start may have been interrupted before this."""
        url = probe.local_database(port, "postgres")
        try:
            with contextlib.closing(open_session(url, connect_timeout=probe.PROBE_TIMEOUT)) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    connection.cursor().execute(statement)  # not in a transaction
        except psycopg.Error as error:
            raise Terminal(
                f"the database {DATABASE} could not be created: {one_line(error)} (log: {self.log})"
            ) from error
