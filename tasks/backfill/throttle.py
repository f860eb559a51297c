"""A backfill makes room for the live drain."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from infra.connections.clients import APPLICATION, DRAIN, Clients

_DRAINING = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()
                      AND (state <> 'idle' OR state_change > clock_timestamp() - interval '1 second'))"""
_LINGER_SECONDS = 3.0  # a drain between two of its batches is one all the same
_LOOK_SECONDS = 0.2
_MOST_SECONDS = 5.0


def is_draining(connection: psycopg.Connection) -> bool:
    """Whether a drain has done something within the last second."""
    row = connection.execute(_DRAINING, [f"{APPLICATION} {DRAIN}"]).fetchone()
    return row is not None and bool(row[0])


class LoadThrottle:
    """How much of the server a backfill may take: all that it was given, or a part of it while a drain works."""

    def __init__(self, clients: Clients, parallel: int) -> None:
        self._clients = clients
        self.parallel = parallel
        self._looked = self._seen = float("-inf")

    def is_shared(self) -> bool:
        """Whether a drain works, as of now, or nearly. A look that fails is none: the next load tells."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            with suppress(psycopg.Error), self._clients.postgres() as connection:
                if is_draining(connection):
                    self._seen = now
        return now - self._seen < _LINGER_SECONDS

    def loads(self) -> int:
        """How many may be under way: one while a drain works."""
        return 1 if self.is_shared() else self.parallel

    def give_way(self, seconds: float) -> None:
        """Leave the server to a drain that works for as long as one has just used it oneself."""
        end = time.monotonic() + min(seconds, _MOST_SECONDS)
        while time.monotonic() < end and self.is_shared():
            time.sleep(min(_LOOK_SECONDS, max(0.0, end - time.monotonic())))
