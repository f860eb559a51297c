"""Put on record that somebody has accepted a loss: from then on it is no reason for an alarm."""

from __future__ import annotations

import psycopg

from infra.errors.exceptions import Terminal

# Locked: a drain that settles at the same moment has recorded its loss before, or does so afterwards.
_STREAM = "SELECT lost, accepted FROM spillway.streams WHERE name = %s FOR NO KEY UPDATE"
_ACCEPT = "UPDATE spillway.streams SET accepted = lost, accepted_by = %s, accepted_at = now() WHERE name = %s"


def accept_loss(connection: psycopg.Connection, stream: str, by: str) -> tuple[int, int]:
    """How many lost entries of `stream` are accepted now that were not before, and how many are in all.

    Nothing changes if none are new. Raises `Terminal` for a stream that Spillway does not know.
    """
    with connection.transaction():
        row = connection.execute(_STREAM, [stream]).fetchone()
        if row is None:
            raise Terminal(f"accept-loss: Spillway knows no stream {stream!r}; see the names: spillway status")
        lost, accepted = row
        if lost > accepted:
            connection.execute(_ACCEPT, [by, stream])
    return lost - accepted, lost
