"""The servers that a test session uses."""

from __future__ import annotations

from dataclasses import dataclass

from infra.servers.engine import Engine
from infra.settings import Settings


@dataclass(frozen=True)
class Servers:
    """The servers of a session. `engine` is None if they were given by URL: tests cannot stop these.

    `edition`: Community or Apache; it and `version` are empty on a server without TimescaleDB.
    """

    settings: Settings
    engine: Engine | None
    edition: str
    version: str
