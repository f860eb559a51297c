"""Triggers on `events`: a table, or a server, that rejects or changes some rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg


def trigger_sql(
    body: str, when: str = "BEFORE INSERT", *, each: str = "ROW", name: str = "on_events", schema: str = "users"
) -> str:
    """SQL that makes a trigger on `events`, and a function of the same name with this PL/pgSQL body.

    The body may declare variables: `DECLARE ... BEGIN ...`. A body that returns nothing lets the row pass.
    """
    block = body if body.lstrip().startswith("DECLARE") else f"BEGIN {body}"
    return f"""
        CREATE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ {block} RETURN NEW; END $$;
        CREATE TRIGGER {name} {when} ON public.events FOR EACH {each} EXECUTE FUNCTION {schema}.{name}()"""


def raising(state: str) -> str:
    """A statement that rejects the row with an error of this SQLSTATE."""
    return f"RAISE EXCEPTION 'user % is not welcome', NEW.user_id USING ERRCODE = '{state}';"


def failing_at(event_id: str) -> str:
    """A body by which the server fails at this one event, and so at every slice that holds it.

    A value that it rejects would go to quarantine. This is a state of the server, which no further attempt changes:
    the sequence `public.untouched`, which `trigger` makes, has no current value.
    """
    return f"IF NEW.event_id = '{event_id}' THEN PERFORM currval('public.untouched'); END IF;"


def row_limit(most: int, also: str = "") -> str:
    """A body by which a transaction fails that inserts more than `most` rows; `also` are further statements.

    It exceeds a limit on temporary files, which stands for TimescaleDB's limit on decompression. An error that the
    trigger raises itself would be about the row.
    """
    return f"""
        DECLARE count int := coalesce(nullif(current_setting('test.count', true), ''), '0')::int + 1;
        BEGIN
            PERFORM set_config('test.count', count::text, true);
            IF count > {most} THEN
                SET LOCAL work_mem = '64kB';
                SET LOCAL temp_file_limit = '64kB';
                PERFORM count(*) FROM (SELECT n FROM generate_series(1, 50000) AS n ORDER BY -n) AS sorted;
            END IF;
            {also}"""


@contextmanager
def trigger(
    connection: psycopg.Connection, body: str, when: str = "BEFORE INSERT", *, each: str = "ROW"
) -> Iterator[None]:
    """While the block runs, `events` has a trigger of this body."""
    connection.execute("CREATE SEQUENCE public.untouched")
    connection.execute(trigger_sql(body, when, each=each, schema="public").encode())
    try:
        yield
    finally:
        connection.execute(
            "DROP TRIGGER on_events ON events; DROP FUNCTION public.on_events(); DROP SEQUENCE public.untouched"
        )


@contextmanager
def constraint(connection: psycopg.Connection, condition: str) -> Iterator[None]:
    """While the block runs, `events` rejects rows that do not meet this condition."""
    connection.execute(f"ALTER TABLE events ADD CONSTRAINT checked CHECK ({condition})".encode())
    try:
        yield
    finally:
        connection.execute("ALTER TABLE events DROP CONSTRAINT checked")
