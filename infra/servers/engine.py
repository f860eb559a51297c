"""The interface that every way to run the two servers fulfils."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from infra.errors.exceptions import Terminal
from infra.settings import Settings

Service = Literal["timescaledb", "redis"]
# In the order in which they are started and shown.
SERVICES: tuple[Service, ...] = ("timescaledb", "redis")

# fast: orderly, at once. immediate: no clean-up, a recovery at the next start. kill: SIGKILL, as a power cut.
How = Literal["fast", "immediate", "kill"]

# healthy: it answers. running: its process is there but does not answer (yet). stopped: there is no process, or nothing
# answers. refuses us: it answers and does not let us in. unfit: Spillway cannot work with what answers.
State = Literal["healthy", "running", "stopped", "refuses us", "unfit"]


@dataclass(frozen=True)
class ServiceStatus:
    """How one server is. `version` is empty unless it answers; `note` says why it does not, where that is known."""

    service: Service
    state: State
    port: int
    version: str
    data: str
    note: str = ""


class Engine(ABC):
    """A way to run the servers of one instance. Making one starts nothing and touches no file.

    Every method raises `infra.errors.exceptions.Terminal` with the next step where it cannot do its work.
    """

    name: str

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def not_running(self, service: Service) -> Terminal:
        """The error of a command that needs a running server."""
        return Terminal(f"{service} of instance {self.settings.instance} does not run: `spillway up` starts it")

    @abstractmethod
    def why_not(self) -> str | None:
        """None if this engine can work on this machine; otherwise one sentence with the reason."""

    @abstractmethod
    def runs(self) -> bool:
        """Whether a server of this instance runs by this engine."""

    @abstractmethod
    def data(self) -> str | None:
        """Where this engine holds data of this instance, for people to read; None if it holds none."""

    @abstractmethod
    def up(self) -> tuple[Service, ...]:
        """Start what does not run, wait until both answer. Returns what it started: nothing if all was up."""

    @abstractmethod
    def down(self) -> tuple[Service, ...]:
        """Stop both in order; the data stays. Returns what it stopped."""

    def restart(self) -> None:
        """Stop both in order and start them again; returns when both answer."""
        self.down()
        self.up()

    @abstractmethod
    def start(self, service: Service) -> None:
        """Start one server and wait until it answers; harmless if it runs already."""

    @abstractmethod
    def stop(self, service: Service, how: How = "fast") -> None:
        """Stop one server and wait until it is gone; harmless if it does not run."""

    @abstractmethod
    def status(self) -> list[ServiceStatus]:
        """How each server is, in the order of `SERVICES`."""

    @abstractmethod
    def logs(self, service: Service | None, follow: bool) -> None:
        """Print the log of one or of both; with `follow`, go on until interrupted."""

    @abstractmethod
    def reset(self) -> None:
        """Stop both and remove the data of this instance for good. Asks nothing: the command has asked."""

    @abstractmethod
    def psql(self, args: Sequence[str]) -> int:
        """Run psql on the database with this terminal; returns its exit code."""

    @abstractmethod
    def redis_cli(self, args: Sequence[str]) -> int:
        """Run redis-cli on the Redis with this terminal; returns its exit code."""
