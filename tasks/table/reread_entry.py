"""Read an entry of the quarantine from its stream: one that was too large for the limit of the drain."""

from __future__ import annotations

import psycopg
import redis

from tasks.base.addresses import parse_id
from tasks.ledger.names import original_name
from tasks.ledger.plan import read_checkpoint
from tasks.streams.continuity import why_rewound
from tasks.streams.entry_sizes import measure_entries
from tasks.streams.pages import oversized
from tasks.streams.tail import inspect_abridged

_NEXT = "bring it back, then redrive the entry, or discard it (spillway quarantine discard)"


def reread_entry(
    client: redis.Redis, connection: psycopg.Connection, stream: str, entry: str, most_bytes: int
) -> list[bytes] | str:
    """The fields of an entry, names and values in turn, or the reason why they cannot be read.

    `stream`: its name in the ledger. An entry of more than `most_bytes` is not read. Raises `psycopg.Error`,
    `redis.RedisError`, and `Terminal` if the key is not a stream.
    """
    if stream != (name := original_name(stream)):
        return f"it was not read, and {name} is not drained as {stream} any more; {_NEXT}"
    position = parse_id(entry)
    measured = measure_entries(client, stream, (position, position + 1), 1, most_bytes, most_bytes)
    if measured.bytes > most_bytes:
        return oversized(measured.bytes, most_bytes)
    checkpoint = read_checkpoint(connection, stream)
    settled = None if checkpoint is None else checkpoint.settled_id
    tail, hash_now, (page,) = inspect_abridged(client, stream, settled, ("XRANGE", stream, entry, entry))
    if isinstance(page, Exception):
        raise page
    if tail is None or checkpoint is None:
        return f"it was not read, and there is no stream {stream} at the moment; {_NEXT}"
    if reason := why_rewound(tail, checkpoint, hash_now):
        return f"it was not read, and the stream went back: {reason}; {_NEXT}"
    if not page:
        return f"it was not read, and the stream no longer has it; {_NEXT}"
    fields: list[bytes] = list(page[0][1])
    if (size := sum(map(len, fields))) > most_bytes:
        return oversized(size, most_bytes)
    return fields
