"""The progress in a stream's row: its drained ids and its sums, so that no plan has to add up the whole ledger.

The transaction that writes a range of the ledger also adds it to the row (`tasks/table/load.py`). Whoever changes the
ledger in another way calls `refresh_progress`. `reconcile` compares both.
"""

from __future__ import annotations

from typing import LiteralString

import psycopg

from infra.display import display_name

# The progress of the stream `s` according to its ledger.
BY_LEDGER: LiteralString = """
    SELECT coalesce(range_agg(ids), '{}') AS drained, coalesce(sum(read), 0)::bigint AS read,
           coalesce(sum(inserted), 0)::bigint AS inserted, max(loaded_at) AS loaded_at
      FROM spillway.ledger WHERE stream = s.id"""
_LOCK = "SELECT FROM spillway.streams WHERE id = %s FOR NO KEY UPDATE"
_REFRESH = f"UPDATE spillway.streams AS s SET (drained, read, inserted, loaded_at) = ({BY_LEDGER}) WHERE id = %s"  # noqa: S608


def refresh_progress(connection: psycopg.Connection, stream_id: int) -> None:
    """Compute the progress in the row of a stream from its ledger, in the caller's transaction or one of its own.

    The row is locked first: a load that has not added its range yet waits, and adds it afterwards. Raises
    `psycopg.Error`.
    """
    with connection.transaction():
        connection.execute(_LOCK, [stream_id])
        connection.execute(_REFRESH, [stream_id])


def progress_fault(stream: str) -> str:
    """What is wrong if the row of a stream does not agree with its ledger."""
    return f"the progress of stream {display_name(stream)} does not balance with its ledger"
