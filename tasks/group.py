"""The consumer group that shows in Redis how far this database has drained a stream.

Its name is of this database alone: two that drain the same Redis each see, and trim no further than, what the other has
read. It is made when a stream is first planned, so that nothing of it is trimmed by another before it is drained.
"""

from __future__ import annotations

import hashlib

import psycopg
import redis

FIRST_RELEASE = "spillway"  # the name that all databases shared

_MAY_ASK = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
# A restored copy has the id of the original: the server and the database are what it differs by.
_IDENTITY = """
    SELECT i.id::text, d.oid::bigint FROM spillway.instance AS i, pg_catalog.pg_database AS d
     WHERE d.datname = current_database()"""
_ENDS_A_RANGE = """
    SELECT FROM spillway.ledger WHERE stream = (SELECT id FROM spillway.streams WHERE name = %s) AND upper(ids) = %s"""


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


def reserve(client: redis.Redis, stream: str, group: str) -> None:
    """Make the group at the start of the stream, if it is not there: from now on nobody else trims what it needs.

    Raises `redis.RedisError`.
    """
    try:
        client.execute_command("XGROUP", "CREATE", stream, group, "0", "ENTRIESREAD", 0)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def publish(client: redis.Redis, stream: str, group: str, position: str, passed: int) -> None:
    """Set the group's last-delivered-id and its count of entries read. Raises `redis.RedisError`."""
    try:
        client.execute_command("XGROUP", "SETID", stream, group, position, "ENTRIESREAD", passed)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        client.execute_command("XGROUP", "CREATE", stream, group, position, "ENTRIESREAD", passed)


def retire_first_release(client: redis.Redis, connection: psycopg.Connection, stream: str) -> None:
    """Remove the group of the first release if this database has set it: otherwise it would stop trimming for ever.

    It is ours if it stands at the end of a range of our ledger and nobody reads by it. Raises `redis.RedisError`.
    """
    for group in client.xinfo_groups(stream):
        if group["name"] != FIRST_RELEASE.encode() or group["pending"] or group["consumers"]:
            continue
        ms, _, seq = group["last-delivered-id"].decode().partition("-")
        end = (int(ms) << 64) + int(seq) + 1
        if connection.execute(_ENDS_A_RANGE, [stream, end]).fetchone() is not None:
            client.xgroup_destroy(stream, FIRST_RELEASE)
