"""The state of a stream in Redis: its tail and single entries."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import chain
from typing import Any

import redis

from infra.errors.exceptions import Terminal
from tasks.base.addresses import id_text, parse_id
from tasks.streams.limited_reply import Command, ReplyTooLarge, execute, execute_limited


@dataclass(frozen=True)
class Tail:
    """A stream at one moment. New entries always get ids greater than `last`.

    `last`: the last id ever assigned, 0 if none. `added`: entries ever added. `length`: entries that it still has.
    `first`: the id of the first of these, 0 if none. `max_deleted`: the greatest id ever deleted by XDEL, 0 if none;
    XTRIM does not change it. `last_hash`: SHA-256 of the entry `last`, None if it no longer exists. `groups`: how many
    consumer groups the stream has.
    """

    last: int
    added: int
    length: int
    first: int = 0
    max_deleted: int = 0
    last_hash: bytes | None = None
    groups: int = 0

    @property
    def removed(self) -> int:
        """How many of the entries ever added were trimmed or deleted."""
        return self.added - self.length


# Longer parts of an entry (names or values) are abridged to both ends, in bytes.
WHOLE_PART, PART_END = 64 << 10, 4 << 10
ABRIDGED_HASH = 33  # bytes of the hash of an abridged entry: SHA-256 and a mark
# TYPE, XINFO STREAM and XRANGE of one entry, with long parts of entries abridged to their length and both ends.
_ABRIDGED = """
local function abridged(entry)
  if not entry then return false end
  local parts, most, ends = {}, tonumber(ARGV[2]), tonumber(ARGV[3])
  for i, part in ipairs(entry[2]) do
    if #part > most then part = {#part, string.sub(part, 1, ends), string.sub(part, -ends)} end
    parts[i] = part
  end
  return {entry[1], parts}
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'stream' then return {kind, false, false} end
local info, wanted = redis.call('XINFO', 'STREAM', KEYS[1]), nil
for i = 1, #info, 2 do
  if info[i] == 'first-entry' or info[i] == 'last-entry' then
    info[i + 1] = abridged(info[i + 1])
    if info[i + 1] and info[i + 1][1] == ARGV[1] then wanted = info[i + 1] end
  end
end
if ARGV[1] ~= '' and not wanted then
  wanted = abridged(redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1], 'COUNT', 1)[1]) or nil
end
return {kind, info, {wanted}}
"""

STREAMS_PER_ROUND_TRIP = 100  # XINFO of them in one transaction holds Redis for half a millisecond
# Waits between inspections of a stream that is away or replaced for a moment: renamed, restored or swapped.
ABSENCE_SECONDS = (0.2, 0.3, 0.5)
_LONGEST_NAME = 1_000  # bytes: an index entry of PostgreSQL holds 2,704, and a stream that went back gets a longer name
# The names that the ledger gives to files (by their SHA-256) and to former streams. `file:uploads` is a stream.
_RESERVED = re.compile(r"file:[0-9a-f]{64}(@.*)?|.*@(again|until)-.*", re.DOTALL)


def name_fault(key: bytes) -> str | None:
    """Why a stream of this name cannot be drained; None if it can."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        return "expected a name in UTF-8"
    if "\0" in name:
        return "its name has a NUL, which text in PostgreSQL cannot hold"
    if len(key) > _LONGEST_NAME:
        return f"its name has {len(key):,} bytes, expected at most {_LONGEST_NAME:,}"
    if _RESERVED.fullmatch(name):
        return "Spillway itself uses names like this, for files and for former streams"
    return None


def absent_stream(stream: str) -> Terminal:
    """The error for a stream that does not exist."""
    return Terminal(f"stream {stream!r} does not exist in Redis; check the name (redis-cli --scan --type stream)")


def inspect_stream(
    client: redis.Redis, stream: str, entry: int | None = None, *commands: Command
) -> tuple[Tail | None, bytes | None, list[Any]]:
    """The tail of `stream`, the hash of its entry `entry`, and the replies to `commands`, all from the same moment.

    One transaction (MULTI/EXEC) in one round trip. The tail is None if the stream does not exist, the hash is None if
    the entry does not. If a command fails, its reply is the exception. Raises `redis.RedisError`, and `Terminal` if the
    key is not a stream. `commands` must have small replies: if the stream's first and last entries are too large for
    one reply, a script leaves them out (`inspect_abridged`).
    """
    try:
        return inspect_limited(client, stream, entry, *commands)
    except ReplyTooLarge:
        return inspect_abridged(client, stream, entry, *commands)


def inspect_limited(
    client: redis.Redis, stream: str, entry: int | None = None, *commands: Command
) -> tuple[Tail | None, bytes | None, list[Any]]:
    """`inspect_stream`, or `ReplyTooLarge` for replies that Redis does not send."""
    replies = execute_limited(client, [*commands, *_inspection(stream, entry)])
    return inspected(stream, replies, len(commands))


def inspect_abridged(
    client: redis.Redis, stream: str, entry: int | None = None, *commands: Command
) -> tuple[Tail | None, bytes | None, list[Any]]:
    """`inspect_stream` by a script, whose reply is small: XINFO STREAM sends the first and the last entry as a whole.

    Without the right to EVAL_RO, or on a server that does not know it, these entries are sent.
    """
    wanted = "" if entry is None else id_text(entry)
    try:
        *answers, found = execute(client, [*commands, ("EVAL_RO", _ABRIDGED, 1, stream, wanted, WHOLE_PART, PART_END)])
    except redis.exceptions.ResponseError:
        found = None
    if not isinstance(found, list):
        replies = execute(client, [*commands, *_inspection(stream, entry)])
    else:
        replies = [*answers, *found[: 3 if entry is not None else 2]]
    return inspected(stream, replies, len(commands))


def _inspection(stream: str, entry: int | None) -> list[Command]:
    commands: list[Command] = [("TYPE", stream), ("XINFO", "STREAM", stream)]
    if entry is not None:
        commands.append(("XRANGE", stream, id_text(entry), id_text(entry), "COUNT", 1))
    return commands


def inspected(stream: str, replies: list[Any], first: int) -> tuple[Tail | None, bytes | None, list[Any]]:
    """The result of an inspection (TYPE, XINFO STREAM, and XRANGE of one entry), whose replies begin at `first`."""
    answers, replies = replies[:first], replies[first:]
    kind, info, *rest = replies
    if kind == b"none":  # by its type, not by the text of an error
        return None, None, answers
    if isinstance(kind, bytes) and kind != b"stream":
        raise Terminal(f"stream {stream!r}: expected a stream, found a {kind.decode()}; check the name")
    for answer in replies:
        if isinstance(answer, Exception):
            raise answer
    found = rest[0] if rest else None
    return tail_of_reply(info), _hash(found[0][1]) if found else None, answers


def read_tail(client: redis.Redis, stream: str) -> Tail:
    """The tail of `stream` now. Raises `Terminal` if it does not exist, `redis.RedisError`."""
    tail, _, _ = inspect_stream(client, stream)
    if tail is None:
        raise absent_stream(stream)
    return tail


def tail_of_reply(reply: Any) -> Tail:
    """The tail from a reply to XINFO STREAM: names and values in turn, or a dict if the client speaks protocol 3."""
    info: dict[bytes, Any] = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    last, newest = parse_id(info[b"last-generated-id"]), info[b"last-entry"]
    return Tail(
        last,
        info[b"entries-added"],
        info[b"length"],
        parse_id(info[b"recorded-first-entry-id"]) if info[b"length"] else 0,
        parse_id(info[b"max-deleted-entry-id"]),
        _hash(newest[1]) if newest and parse_id(newest[0]) == last else None,
        info[b"groups"],
    )


def _hash(fields: Any) -> bytes:
    """SHA-256 of the fields of an entry: names and values in turn, or a dict from a client with callbacks.

    A long part counts with its length and its two ends only, since a script sends no more of it: a list of these three.
    Then a mark follows the hash.
    """
    digest, mark = hashlib.sha256(), b""
    for part in chain.from_iterable(fields.items()) if isinstance(fields, dict) else fields:
        if isinstance(part, list):
            length, *ends = part
        else:
            length, ends = len(part), [part]
            if length > WHOLE_PART:
                ends = [part[:PART_END], part[-PART_END:]]
        digest.update(b"%d:" % length)
        for end in ends:
            digest.update(end)
        mark = b"~" if len(ends) > 1 else mark
    return digest.digest() + mark
