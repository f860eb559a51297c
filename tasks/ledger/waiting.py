"""Which streams have waited longest."""

from __future__ import annotations

from collections.abc import Sequence

from infra.connections.clients import Clients
from tasks.base.step import step

_LOADED = "SELECT name FROM spillway.streams WHERE name = ANY(%s) AND loaded_at IS NOT NULL ORDER BY loaded_at, name"


@step("longest waiting")
def longest_waiting(clients: Clients, streams: Sequence[str]) -> list[str]:
    """The streams, those first that were never loaded, then by the time of their last load. Raises `SpillwayError`."""
    with clients.translate_errors("find the streams that wait"), clients.postgres() as connection:
        loaded = [name for (name,) in connection.execute(_LOADED, [list(streams)])]
    known = set(loaded)
    return [*(name for name in streams if name not in known), *loaded]
