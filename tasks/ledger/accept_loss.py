"""Record that somebody has accepted a loss. From then on it does not raise an alarm."""

from __future__ import annotations

import psycopg

from infra.errors.exceptions import Terminal

# Locks the row: a drain that settles at the same time records its loss either before or afterwards.
_STREAM = "SELECT lost, accepted FROM spillway.streams WHERE name = %s FOR NO KEY UPDATE"
_ACCEPT = "UPDATE spillway.streams SET accepted = lost, accepted_by = %s, accepted_at = now() WHERE name = %s"


def accept_loss(connection: psycopg.Connection, stream: str, by: str) -> tuple[int, int]:
    """Accept all lost entries of `stream`. Returns how many were not accepted before, and how many are lost in total.

    If none are new, nothing changes. Raises `Terminal` if the ledger does not know the stream, `psycopg.Error`.
    """
    with connection.transaction():
        row = connection.execute(_STREAM, [stream]).fetchone()
        if row is None:
            raise Terminal(
                f"accept-loss: the ledger has no stream {stream!r}; nothing was changed; list them: spillway status"
            )
        lost, accepted = row
        if lost > accepted:
            connection.execute(_ACCEPT, [by, stream])
    return lost - accepted, lost
