"""SQLSTATEs and errors that carry them."""

from __future__ import annotations

import psycopg

TRANSIENT_STATES = {
    "08000": "connection exception",
    "08006": "connection failure",
    "40001": "serialization failure",
    "40P01": "deadlock detected",
    "53100": "disk full",
    "53200": "out of memory",
    "53300": "too many connections",
    "55P03": "lock not available",
    "57014": "query canceled",
    "57P01": "admin shutdown",
    "57P02": "crash shutdown",
    "57P03": "cannot connect now",
    "57P05": "idle session timeout",
    "25006": "read only transaction",
    "25P03": "idle in transaction session timeout",
    "58030": "I/O error",
}


def error_of_state(state: str) -> psycopg.Error:
    return type("Refused", (psycopg.errors.lookup(state),), {"sqlstate": state})("words")
