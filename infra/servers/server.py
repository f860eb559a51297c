"""What both servers have in common as ordinary processes."""

from __future__ import annotations

import os
import re
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import psutil

from infra.errors.exceptions import Terminal
from infra.servers.engine import Service, StopMode
from infra.servers.host import Host, User

STOP_LIMIT = 90  # seconds within which a server must end after a request to stop


class Server(ABC):
    """One server of one instance. Its folder holds data, log and settings, and belongs to its user."""

    service: Service

    def __init__(self, host: Host, home: Path, user: User | None) -> None:
        self.host, self.home, self.user = host, home, user
        self.data = home / "data"

    @property
    def log(self) -> Path:
        """The log file, as this process sees it."""
        return self.host.outside(self.home / "server.log")

    @abstractmethod
    def _recorded_pid(self) -> int | None:
        """The pid in the pid file; the process may have ended."""

    @abstractmethod
    def port(self) -> int | None:
        """The port of the last start; None if it was never started."""

    @abstractmethod
    def answer(self, port: int) -> str:
        """Its version, queried over the network. Raises the driver's errors."""

    @abstractmethod
    def launch(self, port: int) -> None:
        """Start it. Raises `Terminal` with the reason if it ends at once."""

    @abstractmethod
    def request_stop(self, pid: int, mode: StopMode) -> None:
        """Ask it to stop, `fast` or `immediate`."""

    def pid(self) -> int | None:
        """The pid of the running server; None if it does not run, even if there is an old pid file."""
        try:
            pid = self._recorded_pid()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise Terminal(
                f"{error.filename} belongs to another user; run as that user or as root,"
                " or set SPILLWAY_STATE_DIR to a folder of your own"
            ) from None
        return pid if pid is not None and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is this server: pids are reused, and a child that ended lingers as a zombie.

        Both servers work in their data folder; a zombie has no working directory.
        """
        try:
            return Path(psutil.Process(pid).cwd()).samefile(self.host.outside(self.data))
        except (psutil.Error, OSError):
            return False

    def prepare_home(self) -> None:
        """Create the folder and check that the server's user can reach it."""
        self.host.make_folder(self.home, self.user, 0o700)
        if self.user and self.host.run(["test", "-w", str(self.home)], self.user).returncode:
            raise Terminal(
                f"{self.service} has to run as the user {self.user.name}, who cannot reach {self.home};"
                " set SPILLWAY_STATE_DIR to a folder that every user can enter"
            )

    def stop(self, mode: StopMode) -> None:
        """Stop it and wait until it has ended. Does nothing if it does not run."""
        pid = self.pid()
        if pid is None:
            return
        if mode == "kill":
            self._kill(pid)
        else:
            self.request_stop(pid, mode)
        deadline = time.monotonic() + STOP_LIMIT
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                raise Terminal(
                    f"{self.service} (pid {pid}) did not stop within {STOP_LIMIT} s; its log:"
                    f" {self.failure_line(0)}; end it with `kill -9 {pid}`"
                )
            time.sleep(0.02)

    @staticmethod
    def _kill(pid: int) -> None:
        """SIGKILL the process and all its children, as a power cut would. Returns when they have ended."""
        victims = [pid, *child_pids(pid)]
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + STOP_LIMIT
        while any(_is_running(victim) for victim in victims) and time.monotonic() < deadline:
            time.sleep(0.01)

    def log_size(self) -> int:
        """The size of the log in bytes: what follows comes from the next start."""
        return self.log.stat().st_size if self.log.exists() else 0

    def failure_line(self, since: int) -> str:
        """The line of the log, from byte `since` on, that best explains why the server ended."""
        try:
            with self.log.open("rb") as file:
                file.seek(since)
                text = file.read(1_000_000).decode(errors="replace")
        except OSError as error:
            return f"(no log: {error.strerror})"
        return failure_line(text)


# What servers write before they give up.
_CAUSE = re.compile(
    r"(?:FATAL|PANIC):|FATAL CONFIG|Fatal error|[Bb]ad (?:file|directive)|[Cc]ould not|Can't|Failed"
    r"|invalid value for|unrecognized configuration|syntax error in file"
)
# Lines that explain nothing: PostgreSQL's last, and what Redis repeats at each start.
_UNRELATED = re.compile(r"database system is shut down|Configuration loaded|oO0OoO0|^\s*$")


def failure_line(text: str) -> str:
    """The line of a server's log or of a tool's output that best explains why it failed."""
    lines = [line.strip() for line in text.splitlines() if not _UNRELATED.search(line)]
    # The first error is the cause; those after it are consequences.
    return next((line for line in lines if _CAUSE.search(line)), lines[-1] if lines else "(its log is empty)")


_FULL = re.compile(r"No space left|disk space|wrote only|[Dd]isk quota", re.IGNORECASE)


def disk_full_step(reason: str) -> str:
    """The next step if `reason` is a full disk, to be appended to a message; else empty."""
    return "; free some space there, or set SPILLWAY_STATE_DIR to another disk" if _FULL.search(reason) else ""


def child_pids(pid: int) -> list[int]:
    """The direct children of a process."""
    with suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def _is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False
