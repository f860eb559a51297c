"""SQLSTATEs and errors that carry them."""

from __future__ import annotations

from types import SimpleNamespace

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


def server_error(
    state: str, message: str, detail: str | None = None, source_function: str | None = None
) -> psycopg.Error:
    """An error as psycopg raises it for a server's answer, with its class, text and diagnostics."""
    kind = psycopg.errors.lookup(state)
    diag = SimpleNamespace(message_primary=message, message_detail=detail, source_function=source_function)
    text = message if detail is None else f"{message}\nDETAIL:  {detail}"
    error: psycopg.Error = type(kind.__name__, (kind,), {"sqlstate": state, "diag": diag})(text)
    return error
