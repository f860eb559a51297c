"""Servers that reject something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


@contextmanager
def stumbling(connection: psycopg.Connection, event_id: str) -> Iterator[None]:
    """While the block runs, the server fails at this one event, and with it at every slice that has it. A value that it
    rejects would be in quarantine; this is a state of the server's, which no further attempt changes."""
    connection.execute(
        "CREATE SEQUENCE public.stumbled; CREATE FUNCTION public.stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.event_id = '{event_id}' THEN PERFORM currval('public.stumbled'); END IF; RETURN NEW; END $$"
    )
    connection.execute("CREATE TRIGGER stumble BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION public.stumble()")
    try:
        yield
    finally:
        connection.execute(
            "DROP TRIGGER stumble ON events; DROP FUNCTION public.stumble(); DROP SEQUENCE public.stumbled"
        )
