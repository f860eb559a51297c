"""Who locks tables, if their figures cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg

from infra.display import display_name
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
