"""What Redis says of a stream: its tail, and single entries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import redis

from infra.errors import Terminal
from tasks.ids import id_text, parse_id


@dataclass(frozen=True)
class Tail:
    """A stream at one moment. All entries up to `last` are there for good: new ones get greater ids.

    `last`: the last id ever given out, 0 for none. `added`: entries ever added. `length`: entries still there.
    `first`: the id of the first of them, 0 for none. `max_deleted`: the greatest id ever deleted by XDEL, 0 for none;
    XTRIM does not move it.
    """

    last: int
    added: int
    length: int
    first: int = 0
    max_deleted: int = 0


def find_streams(client: redis.Redis, wanted: list[str]) -> tuple[list[str], list[str]]:
    """The streams that the names and patterns (`*`, `?`, `[…]`) of `wanted` stand for, sorted, each once; and warnings.

    A pattern may fit none. Raises `Terminal` for a name that no stream has.
    """
    found: set[str] = set()
    warnings = []
    for name in wanted:
        if any(c in name for c in "*?["):
            keys: Any = client.scan_iter(match=name, count=1000, _type="stream")
            for key in keys:
                try:
                    found.add(key.decode())
                except UnicodeDecodeError:
                    warnings.append(f"stream {key!r} is left out: expected a name in UTF-8; rename it (RENAME)")
            continue
        kind: Any = client.type(name)
        if kind == b"none":
            raise Terminal(f"stream {name!r} does not exist in Redis; check the name (redis-cli --scan --type stream)")
        if kind != b"stream":
            raise Terminal(f"{name!r} in Redis is a {kind.decode()}, expected a stream; check the name")
        found.add(name)
    return sorted(found), warnings


def read_tail(client: redis.Redis, stream: str) -> Tail:
    """The tail of `stream` now, in one reply of Redis. Raises `Terminal` where it does not exist (any more)."""
    try:
        info: Any = client.xinfo_stream(stream)
    except redis.exceptions.ResponseError as error:
        if "no such key" in str(error):
            raise Terminal(f"stream {stream!r} does not exist in Redis; check the name") from None
        raise
    return Tail(
        parse_id(info["last-generated-id"]),
        info["entries-added"],
        info["length"],
        parse_id(info["recorded-first-entry-id"]) if info["length"] else 0,
        parse_id(info["max-deleted-entry-id"]),
    )


def entry_hash(client: redis.Redis, stream: str, entry: int) -> bytes | None:
    """A hash (SHA-256) of the fields of one entry, None where there is no such entry."""
    reply: Any = client.execute_command("XRANGE", stream, id_text(entry), id_text(entry), "COUNT", 1)
    if not reply:
        return None
    digest = hashlib.sha256()
    for part in reply[0][1]:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()
