"""The name of the consumer group in which a database records how far it has drained. It is unique to the database."""

from __future__ import annotations

import hashlib

import psycopg

_MAY_READ_SYSTEM_ID = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
# A restored copy has the id of the original, but another server or database.
_IDENTITY = """
    SELECT i.id::text, d.oid::bigint FROM spillway.instance AS i, pg_catalog.pg_database AS d
     WHERE d.datname = current_database()"""


def group_name(connection: psycopg.Connection) -> str:
    """The name: `spillway-` and 12 hexadecimal digits. Raises `psycopg.Error`."""
    identity = connection.execute(_IDENTITY).fetchone()
    may_read = connection.execute(_MAY_READ_SYSTEM_ID).fetchone()
    assert identity is not None  # the schema inserts this row
    assert may_read is not None  # a function has one row
    system = None
    if may_read[0]:
        system = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    return f"spillway-{hashlib.sha256(repr((*identity, system)).encode()).hexdigest()[:12]}"
