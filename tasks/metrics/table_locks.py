"""Who locks tables, if their figures cannot be read or drains wait."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import psycopg

from infra.display import coarse_age, display_name
from tasks.metrics.chunk_figures import WantedTable

# The holder of the exclusive lock that was taken first. The name of a chunk says nothing to its reader: the lock of a
# hypertable is one of each chunk as well, so the tables that somebody asked for come first.
_HOLDER = """
    SELECT n.nspname, c.relname, a.pid, a.application_name, a.state
      FROM pg_locks AS l
      JOIN pg_class AS c ON c.oid = l.relation AND c.relkind IN ('r', 'p')
      JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname !~ '^pg_'
      JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.mode = 'AccessExclusiveLock' AND l.granted
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])) DESC, a.xact_start, 1, 2
     LIMIT 1"""

# A transaction that somebody left open: it holds a lock that keeps drains from writing, or a session waits for it.
# Those of Spillway end by themselves.
_FORGOTTEN = """
    WITH blocking AS (SELECT DISTINCT unnest(pg_blocking_pids(pid)) AS pid FROM pg_stat_activity
                       WHERE datname = current_database()),
         holding AS (SELECT DISTINCT pid FROM pg_locks JOIN pg_class AS c ON c.oid = relation
                      WHERE c.relnamespace = 'spillway'::regnamespace AND granted AND mode LIKE '%%Lock'
                        AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock',
                                         'ShareUpdateExclusiveLock'))
    SELECT a.pid, a.application_name, extract(epoch FROM clock_timestamp() - a.xact_start)::float8
      FROM pg_stat_activity AS a
     WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%%'
       AND a.application_name NOT LIKE 'spillway%%' AND a.xact_start < clock_timestamp() - %s
       AND a.pid IN (SELECT pid FROM blocking UNION SELECT pid FROM holding)
     ORDER BY a.xact_start LIMIT 1"""
_FORGOTTEN_AFTER = timedelta(seconds=10)


def describe_forgotten(connection: psycopg.Connection) -> str | None:
    """The oldest transaction that somebody left open and that keeps others waiting, with what to type.

    None if nobody did, or if the role sees only its own sessions. Raises `psycopg.Error`.
    """
    row = connection.execute(_FORGOTTEN, [_FORGOTTEN_AFTER]).fetchone()
    if row is None:
        return None
    pid, application, seconds = row
    who = f" ({display_name(application)})" if application else ""
    return (
        f"session {pid}{who} left a transaction open {coarse_age(seconds)} ago and locks what others wait for: spillway"
        f" psql -c 'SELECT pg_terminate_backend({pid})' rolls it back"
    )


def describe_lock(connection: psycopg.Connection, tables: Iterable[WantedTable]) -> str:
    """Which table is locked and by whom, as far as PostgreSQL says, with what to type. Raises `psycopg.Error`."""
    wanted = list(tables)
    row = connection.execute(_HOLDER, [[one.schema for one in wanted], [one.name for one in wanted]]).fetchone()
    if row is None:
        return "a table is locked by another session, so no tables are shown: spillway status looks again"
    schema, table, pid, application, state = row
    who = ", ".join(display_name(part) for part in (application, state) if part)
    return (
        f"{display_name(f'{schema}.{table}')} is locked by session {pid}{f' ({who})' if who else ''}, so no tables are"
        f" shown: spillway psql -c 'SELECT pg_terminate_backend({pid})' ends it"
    )
