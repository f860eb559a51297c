"""What the two servers have in common when they are ordinary processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

from infra.errors.exceptions import Terminal
from infra.servers.engine import How, Service
from infra.servers.host import Host, User

STOP_LIMIT = 90  # seconds until a server that was asked to stop must be gone


class Server(ABC):
    """One server of one instance, with a folder of its own that its user owns: data, log, settings."""

    service: Service

    def __init__(self, host: Host, home: Path, user: User | None) -> None:
        self.host, self.home, self.user = host, home, user
        self.data = home / "data"

    @property
    def log(self) -> Path:
        """The log file, as we see it."""
        return self.host.outside(self.home / "server.log")

    @abstractmethod
    def _recorded_pid(self) -> int | None:
        """What the pid file says; the process may be long gone."""

    @abstractmethod
    def port(self) -> int | None:
        """The port of its last start; None if it was never started."""

    @abstractmethod
    def answer(self, port: int) -> str:
        """Its version, asked by the network. Raises the driver's errors."""

    @abstractmethod
    def launch(self, port: int) -> None:
        """Start it; raises `Terminal` with the reason if it ends at once."""

    @abstractmethod
    def ask_to_stop(self, pid: int, how: How) -> None:
        """Begin to stop it, by `fast` or `immediate`."""

    def pid(self) -> int | None:
        """The pid of its process; None if there is none, whatever an old pid file says."""
        try:
            pid = self._recorded_pid()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise Terminal(
                f"{error.filename} belongs to another user: run as that one or as root,"
                " or set SPILLWAY_STATE_DIR to a folder of your own"
            ) from None
        return pid if pid is not None and self._is_ours(pid) else None

    def _is_ours(self, pid: int) -> bool:
        """Whether `pid` is alive and is this server: numbers are used again, and dead children linger as zombies."""
        if sys.platform == "linux":
            # Both servers work in their data folder, and a zombie works nowhere.
            try:
                return Path(f"/proc/{pid}/cwd").samefile(self.host.outside(self.data))
            except OSError:
                return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def prepare_home(self) -> None:
        """Make the folder, and see that the user can reach it."""
        self.host.make_folder(self.home, self.user, 0o700)
        if self.user and self.host.run(["test", "-w", str(self.home)], self.user).returncode:
            raise Terminal(
                f"the user {self.user.name}, as whom {self.service} has to run, cannot reach {self.home}:"
                " set SPILLWAY_STATE_DIR to a folder that every user can enter"
            )

    def stop(self, how: How) -> None:
        """Stop it and wait until it is gone; harmless if it does not run."""
        pid = self.pid()
        if pid is None:
            return
        if how == "kill":
            self._kill(pid)
        else:
            self.ask_to_stop(pid, how)
        deadline = time.monotonic() + STOP_LIMIT
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                raise Terminal(
                    f"{self.service} (pid {pid}) did not stop within {STOP_LIMIT} s;"
                    f" its log ends with: {self.telling_line(0)}; end it with `kill -9 {pid}`"
                )
            time.sleep(0.02)

    @staticmethod
    def _kill(pid: int) -> None:
        """SIGKILL to the process and all its children, as a power cut: a later start finds none of them."""
        victims = [pid, *children(pid)]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + STOP_LIMIT
        while any(_works(victim) for victim in victims) and time.monotonic() < deadline:
            time.sleep(0.01)

    def log_size(self) -> int:
        """How long the log is now, to tell what a start adds to it."""
        return self.log.stat().st_size if self.log.exists() else 0

    def telling_line(self, since: int) -> str:
        """The line after byte `since` of the log that tells most of why the server ended."""
        try:
            with self.log.open("rb") as file:
                file.seek(since)
                text = file.read(1_000_000).decode(errors="replace")
        except OSError as error:
            return f"(no log: {error.strerror})"
        return telling(text)


# What servers write before they give up: PostgreSQL its severities, Redis a `#` in front of what is grave.
_GRAVE = re.compile(
    r"(?:FATAL|PANIC):|FATAL CONFIG|Fatal error|[Bb]ad (?:file|directive)|[Cc]ould not|Can't|Failed"
    r"|invalid value for|unrecognized configuration|syntax error in file"
)
_ENDS = re.compile(r"database system is shut down|Configuration loaded|oO0OoO0|^\s*$")


def telling(text: str) -> str:
    """The line of a server's log or of a tool's output that tells most of why it failed."""
    lines = [line.strip() for line in text.splitlines() if not _ENDS.search(line)]
    # The first grave one is the cause, those after it are consequences.
    return next((line for line in lines if _GRAVE.search(line)), lines[-1] if lines else "(its log says nothing)")


_FULL = re.compile(r"No space left|disk space|wrote only|[Dd]isk quota", re.IGNORECASE)


def step_for(reason: str) -> str:
    """What to do about a reason, to be put after it; empty where it speaks for itself."""
    return "; free some space there, or set SPILLWAY_STATE_DIR to another disk" if _FULL.search(reason) else ""


def children(pid: int) -> list[int]:
    """The direct children of a process; none where /proc does not tell."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name between the brackets may hold anything, brackets and spaces too.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _works(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
