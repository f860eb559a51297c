"""The interface of every way to run the two servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infra.errors.exceptions import Terminal
from infra.settings import Settings

Service = Literal["timescaledb", "redis"]
# In the order in which they are started and listed.
SERVICES: tuple[Service, ...] = ("timescaledb", "redis")

# fast: orderly, without waiting for clients. immediate: without clean-up; the next start recovers. kill: SIGKILL, as a
# power cut.
StopMode = Literal["fast", "immediate", "kill"]

# healthy: it answers. running: its process exists but does not answer (yet). stopped: no process exists, or nothing
# answers. access denied: it rejects the connection. unsupported: Spillway cannot work with this server.
State = Literal["healthy", "running", "stopped", "access denied", "unsupported"]


@dataclass(frozen=True)
class ServiceStatus:
    """The state of one server. `version`: empty unless it answers. `note`: why it does not, if known."""

    service: Service
    state: State
    port: int
    version: str
    data: str
    note: str = ""


class Engine(ABC):
    """A way to run the servers of one instance. Constructing one starts nothing and touches no file.

    Every method raises `Terminal` with the next step if it fails.
    """

    name: str

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def not_running(self, service: Service) -> Terminal:
        """The error of a command that needs a running server."""
        return Terminal(f"{service} of instance {self.settings.instance} is not running; start it with `spillway up`")

    @abstractmethod
    def unavailable_reason(self) -> str | None:
        """Why this engine cannot work on this machine, in one sentence; None if it can."""

    @abstractmethod
    def runs(self) -> bool:
        """Whether this engine runs a server of this instance."""

    @abstractmethod
    def data(self) -> str | None:
        """Where this engine has data of this instance, as text for people; None if it has none."""

    @abstractmethod
    def up(self) -> tuple[Service, ...]:
        """Start the servers that do not run and wait until both answer. Returns those that it started."""

    @abstractmethod
    def down(self) -> tuple[Service, ...]:
        """Stop both in order and keep their data. Returns those that it stopped."""

    def restart(self) -> None:
        """Stop both in order and start them again. Returns when both answer."""
        self.down()
        self.up()

    @abstractmethod
    def start(self, service: Service) -> None:
        """Start one server and wait until it answers. Does nothing if it runs already."""

    @abstractmethod
    def stop(self, service: Service, mode: StopMode = "fast") -> None:
        """Stop one server and wait until it has ended. Does nothing if it does not run."""

    @abstractmethod
    def status(self) -> list[ServiceStatus]:
        """The state of each server, in the order of `SERVICES`."""

    @abstractmethod
    def logs(self, service: Service | None, follow: bool) -> None:
        """Print the log of one server, or of both if None; with `follow`, until interrupted."""

    @abstractmethod
    def reset(self) -> None:
        """Stop both and remove the data of this instance for good. The command has already asked for consent."""

    @abstractmethod
    def psql(self, args: Sequence[str]) -> int:
        """Run psql on the database in this terminal. Returns its exit code."""

    @abstractmethod
    def redis_cli(self, args: Sequence[str]) -> int:
        """Run redis-cli on the Redis in this terminal. Returns its exit code."""
