"""The name of the consumer group in which a database shows how far it has drained: no other database has it."""

from __future__ import annotations

import hashlib

import psycopg

_MAY_ASK = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
# A restored copy has the id of the original: the server and the database are what it differs by.
_IDENTITY = """
    SELECT i.id::text, d.oid::bigint FROM spillway.instance AS i, pg_catalog.pg_database AS d
     WHERE d.datname = current_database()"""


def group_name(connection: psycopg.Connection) -> str:
    """`spillway-` and 12 hexadecimal digits. Raises `psycopg.Error`."""
    identity = connection.execute(_IDENTITY).fetchone()
    may_ask = connection.execute(_MAY_ASK).fetchone()
    assert identity is not None  # schema.sql puts the row in
    assert may_ask is not None  # a function has one row
    system = None
    if may_ask[0]:
        system = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    return f"spillway-{hashlib.sha256(repr((*identity, system)).encode()).hexdigest()[:12]}"
