"""Replies whose size Redis itself limits, at no cost for small ones.

XRANGE and XINFO STREAM limit entries, not bytes, and no command tells the size of an entry without sending it. But
Redis closes a connection whose output buffer exceeds `client-output-buffer-limit`, and stops to fill that buffer at
once. This limit is 0, so none, for normal clients, and 32 MB by default for those that subscribe to a channel. So the
commands run in a transaction that subscribes first and unsubscribes last: nothing can be published in between, and
afterwards the connection is a normal one. A reply of more than 32 MB is never built; what is built is at most that and
one more field.

Without the right to SUBSCRIBE, or behind a proxy that does not know it in a transaction, replies are not limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import redis

from infra.connections.redis_cluster import on_each_node

Command = Sequence[str | bytes | int]

# Nobody publishes to this channel.
_SUBSCRIBE, _UNSUBSCRIBE = ("SUBSCRIBE", "spillway"), ("UNSUBSCRIBE", "spillway")
_REFUSED: WeakSet[redis.Redis] = WeakSet()  # clients that may not subscribe


class ReplyTooLarge(Exception):
    """Redis closed the connection instead of sending the replies: probably they are too large.

    An interrupted network looks the same. The next command shows which of the two it was.
    """


def execute(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """The replies to `commands`, all from the same moment: one transaction (MULTI/EXEC) in one round trip.

    Replies are as the server sends them. If a command fails, its reply is the exception. In a Cluster, one transaction
    for each node that has some of the keys. Raises `redis.RedisError`, also if a command is refused. On the hot path:
    redis-py's pipeline would cost as much as reading 100 small entries.
    """
    return on_each_node(client, commands, _transaction)


def execute_limited(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    """`execute`, or `ReplyTooLarge` if the replies together have more bytes than Redis grants a subscriber."""
    return on_each_node(client, commands, _limited_transaction)


def _transaction(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands([("MULTI",), *commands, ("EXEC",)]))
        queued = [_reply(connection) for _ in range(len(commands) + 1)]  # OK, QUEUED, QUEUED, …
        replies = _reply(connection)
    except BaseException:
        connection.disconnect()  # the next user would read the rest of the replies
        raise
    finally:
        pool.release(connection)
    if isinstance(replies, Exception):
        raise next((reply for reply in queued if isinstance(reply, Exception)), replies)
    found: list[Any] = replies
    return found


def _limited_transaction(client: redis.Redis, commands: Sequence[Command]) -> list[Any]:
    if client in _REFUSED:
        return _transaction(client, commands)
    try:
        return _transaction(client, [_SUBSCRIBE, *commands, _UNSUBSCRIBE])[1:-1]
    except redis.exceptions.AskError:  # the keys have moved to another node of a Cluster
        raise
    except redis.exceptions.ResponseError:
        replies = _transaction(client, commands)  # raises if the refused command is one of these
        _REFUSED.add(client)
        return replies
    except redis.exceptions.ConnectionError as error:
        if type(error) is redis.exceptions.ConnectionError:
            raise ReplyTooLarge from error
        raise


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.exceptions.ResponseError as error:
        return error
