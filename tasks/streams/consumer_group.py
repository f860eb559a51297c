"""The consumer group that shows in Redis how far this database has drained a stream.

Its name is of this database alone: two that drain the same Redis each see, and trim no further than, what the other has
read. It is made when a stream is first planned, so that nothing of it is trimmed by another before it is drained.
"""

from __future__ import annotations

import psycopg
import redis

from tasks.base.stream_sql import fill_in

FIRST_RELEASE = "spillway"  # the name that all databases shared

_ENDS_A_RANGE = fill_in("""
    SELECT FROM spillway.ledger WHERE stream = {stream_id} AND upper(ids) = %(end)s""")


def reserve(client: redis.Redis, stream: str, group: str) -> None:
    """Make the group at the start of the stream, if it is not there: from now on nobody else trims what it needs.

    Raises `redis.RedisError`.
    """
    try:
        client.execute_command("XGROUP", "CREATE", stream, group, "0", "ENTRIESREAD", 0)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


def publish(client: redis.Redis, stream: str, group: str, position: str, passed: int) -> bool:
    """Set the group's last-delivered-id and its count of entries read. Returns whether the group is a new one.

    Raises `redis.RedisError`.
    """
    try:
        client.execute_command("XGROUP", "SETID", stream, group, position, "ENTRIESREAD", passed)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
        client.execute_command("XGROUP", "CREATE", stream, group, position, "ENTRIESREAD", passed)
        return True
    return False


def retire_first_release(client: redis.Redis, connection: psycopg.Connection, stream: str) -> None:
    """Remove the group of the first release if this database has set it: otherwise it would stop trimming for ever.

    It is ours if it stands at the end of a range of our ledger and nobody reads by it. Raises `redis.RedisError`.
    """
    for group in client.xinfo_groups(stream):
        if group["name"] != FIRST_RELEASE.encode() or group["pending"] or group["consumers"]:
            continue
        ms, _, seq = group["last-delivered-id"].decode().partition("-")
        end = (int(ms) << 64) + int(seq) + 1
        if connection.execute(_ENDS_A_RANGE, {"stream": stream, "end": end}).fetchone() is not None:
            client.xgroup_destroy(stream, FIRST_RELEASE)
