"""Pages from a replica, and from the primary if the replica does not answer or is behind.

Redis replicates asynchronously, so a replica may lack entries that the primary had when the drain was planned. Pages of
a replica are proven like any other (`pages.py`): with the last entry that the primary had at that moment. A replica
applies the commands of its primary in their order. If it has that entry, it has, or had, all entries before it, and one
that is missing there was removed from the primary too. A settlement asks the primary only: if a replica ever lied, the
totals would not balance, and entries that the primary still has are never recorded as lost (`find_loss`).
"""

from __future__ import annotations

import time

import redis

from infra.connections.replica import Replica
from infra.errors.redact import one_line
from tasks.columns.entries import EntryColumns
from tasks.streams.pages import Pages, StreamAway

_LAG_PAUSES = (0.01, 0.05, 0.2)  # seconds: a replica is usually behind by a millisecond


class ReplicaPages:
    """`Pages` of a replica, and of the primary once the replica cannot prove one.

    Both read the same ranges of the same stream. The ones of the replica need an `AbsenceRecord` of their own: a
    replica that is behind is no reason not to trim.
    """

    def __init__(self, replica: Replica, pages: Pages, primary: Pages) -> None:
        self._replica = replica
        self._pages = pages
        self._primary = primary

    def fetch(self, start: int, stop: int, count: int) -> tuple[list[EntryColumns], int]:
        """As `Pages.fetch`."""
        for pause in (*_LAG_PAUSES, None):
            if not self._replica.is_usable:
                break
            try:
                return self._pages.fetch(start, stop, count)
            except StreamAway as error:
                if pause is None:
                    self._replica.is_behind(error.reason)
                else:
                    time.sleep(pause)
            except redis.exceptions.RedisError as error:
                self._replica.failed(one_line(error))
        return self._primary.fetch(start, stop, count)
