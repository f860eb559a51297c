"""A backfill slows down while a drain is working."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from infra.connections.clients import APPLICATION, DRAIN, Clients

MOST_PARALLEL = 32  # loads; how many are used is a parameter of the backfill
_DRAINING = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()
                      AND (state <> 'idle' OR state_change > clock_timestamp() - interval '1 second'))"""
_LINGER_SECONDS = 3.0  # a drain that is between two batches counts as working
_LOOK_SECONDS = 0.2
_MOST_SECONDS = 5.0


def is_draining(connection: psycopg.Connection) -> bool:
    """Whether a drain was active within the last second. Raises `psycopg.Error`."""
    row = connection.execute(_DRAINING, [f"{APPLICATION} {DRAIN}"]).fetchone()
    return row is not None and bool(row[0])


class LoadThrottle:
    """Limits the parallel loads of a backfill: `parallel` of them, or one while a drain is working."""

    def __init__(self, clients: Clients, parallel: int) -> None:
        self._clients = clients
        self.parallel = parallel
        self._looked = self._seen = float("-inf")

    def is_shared(self) -> bool:
        """Whether a drain is working, as of the last 0.2 s. If the query fails, the next call asks again."""
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            with suppress(psycopg.Error), self._clients.postgres() as connection:
                if is_draining(connection):
                    self._seen = now
        return now - self._seen < _LINGER_SECONDS

    def loads(self) -> int:
        """How many loads may run at the same time."""
        return 1 if self.is_shared() else self.parallel

    def give_way(self, seconds: float) -> None:
        """While a drain is working, wait as long as the last load took, but at most 5 s."""
        end = time.monotonic() + min(seconds, _MOST_SECONDS)
        while time.monotonic() < end and self.is_shared():
            time.sleep(min(_LOOK_SECONDS, max(0.0, end - time.monotonic())))
