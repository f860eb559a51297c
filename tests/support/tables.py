"""The tables that runs write: `events` and those of the schema `spillway`, as the server's catalog lists them."""

from __future__ import annotations

from collections.abc import Container

import psycopg

from tasks.ledger.successes import FAILED_DRAIN

# What the installation of the schema writes, and no run.
_INSTALLED = ["instance", "version", "schema_version"]


def ledger_tables(connection: psycopg.Connection) -> list[str]:
    """Qualified names of all tables of the schema `spillway` that runs write, referencing tables first."""
    query = """
        SELECT c.relname FROM pg_class c
         WHERE c.relnamespace = 'spillway'::regnamespace AND c.relkind = 'r' AND c.relname <> ALL (%s)
         ORDER BY EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = c.oid), c.relname"""
    return [f"spillway.{name}" for (name,) in connection.execute(query, [_INSTALLED])]


def empty_tables(connection: psycopg.Connection, keep: Container[str] = ()) -> None:
    """TRUNCATE `events` and all ledger tables but those to `keep`."""
    tables = ["public.events", *ledger_tables(connection)]
    connection.execute(f"TRUNCATE {', '.join(name for name in tables if name not in keep)}".encode())


def delete_ledger_rows(connection: psycopg.Connection) -> None:
    """Empty the ledger tables by DELETE: 2 ms if they hold little, while a TRUNCATE takes 60."""
    for table in ledger_tables(connection):
        connection.execute(f"DELETE FROM {table}".encode())


def users_relations(connection: psycopg.Connection) -> list[str]:
    """Qualified names of the tables and views in the schema `public`, without `events` and those of an extension."""
    query = """
        SELECT c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND c.relname <> 'events' AND NOT c.relispartition
           AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
         ORDER BY 1"""
    return [name for (name,) in connection.execute(query)]


def nothing_was_written(connection: psycopg.Connection) -> bool:
    """Whether `events` and all ledger tables are empty, except for the time at which a drain failed."""
    for table in ["public.events", *ledger_tables(connection)]:
        rows = f"{table} WHERE flow <> '{FAILED_DRAIN}'" if table.endswith("successes") else table
        if connection.execute(f"SELECT EXISTS (SELECT FROM {rows})".encode()).fetchone() != (False,):
            return False
    return True


def redrive_outcomes(connection: psycopg.Connection) -> dict[str, int]:
    """Quarantined entries by the outcome of their redrive; those not redriven yet are under "waits"."""
    query = "SELECT coalesce(outcome, 'waits'), count(*) FROM spillway.quarantine GROUP BY 1"
    return dict(connection.execute(query).fetchall())
