"""The consumer group through which Redis shows how far this database has drained a stream.

The name of the group is specific to the database. If two databases drain the same Redis, each sees what the other
has read and does not trim beyond it. The group is created when a stream is first planned, so that no other database
trims entries that this one has not drained yet.
"""

from __future__ import annotations

import psycopg
import redis

from tasks.base.addresses import parse_id
from tasks.base.stream_sql import fill_in

FIRST_RELEASE = "spillway"  # the first release used this name in all databases

_RANGE_ENDING_AT = fill_in("""
    SELECT FROM spillway.ledger WHERE stream = {stream_id} AND upper(ids) = %(end)s""")


def reserve(client: redis.Redis, stream: str, group: str) -> None:
    """Create the group at the start of the stream unless it exists. Other databases then do not trim what it needs.

    Raises `redis.RedisError`.
    """
    try:
        client.execute_command("XGROUP", "CREATE", stream, group, "0", "ENTRIESREAD", 0)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def publish(client: redis.Redis, stream: str, group: str, position: str, entries_read: int) -> bool:
    """Set the group's last-delivered-id and its count of entries read. Returns whether the group had to be created.

    Raises `redis.RedisError`.
    """
    try:
        client.execute_command("XGROUP", "SETID", stream, group, position, "ENTRIESREAD", entries_read)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        client.execute_command("XGROUP", "CREATE", stream, group, position, "ENTRIESREAD", entries_read)
        return True
    return False


def retire_first_release(client: redis.Redis, connection: psycopg.Connection, stream: str) -> None:
    """Remove the group of the first release if this database has set it. Otherwise it would block trimming forever.

    It belongs to this database if its position is the end of a range in the ledger and it has neither consumers nor
    pending entries. Raises `redis.RedisError`.
    """
    for group in client.xinfo_groups(stream):
        if group["name"] != FIRST_RELEASE.encode() or group["pending"] or group["consumers"]:
            continue
        end = parse_id(group["last-delivered-id"]) + 1
        if connection.execute(_RANGE_ENDING_AT, {"stream": stream, "end": end}).fetchone() is not None:
            client.xgroup_destroy(stream, FIRST_RELEASE)
