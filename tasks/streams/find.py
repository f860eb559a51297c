"""The streams that match names and patterns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from infra.connections.redis_cluster import scan_pages
from infra.display import display_name
from infra.errors.exceptions import Terminal
from tasks.streams.glob import covering_pattern, glob_regex, is_pattern, literal
from tasks.streams.limited_reply import execute
from tasks.streams.tail import ABSENCE_SECONDS, absent_stream, name_fault

# Keys that Redis looks at in one SCAN: about a millisecond, in which nobody else is served.
_KEYS_PER_SCAN = 1000
# From this many SCANs on, the names are worth keeping: 100,000 keys take about 0.1 s of a busy core.
_MANY_SCANS = 100
_TYPES_PER_ROUND_TRIP = 1000


@dataclass(frozen=True)
class Scan:
    """What one scan of all keys found. `names`: streams that match. `is_long`: whether it is worth keeping."""

    names: list[bytes]
    is_long: bool


def find_streams(
    client: redis.Redis, wanted: Sequence[str], names_of: Callable[[list[str]], Iterable[bytes]] | None = None
) -> tuple[list[str], list[str]]:
    """The streams that match the names and patterns (`*`, `?`, `[…]`) of `wanted`, sorted and without repetition.

    Also returns warnings: a pattern skips streams whose names the ledger cannot hold. A pattern may match no stream.
    `a\\*` is the stream `a*`. `names_of`: returns the names of the existing streams that match patterns; without it,
    one scan does. Raises `Terminal` for a name that no stream has, `redis.RedisError`.
    """
    found: set[str] = set()
    warnings = []
    patterns = [name for name in wanted if is_pattern(name)]
    if patterns:
        for key in sorted(names_of(patterns) if names_of else scan_streams(client, patterns).names):
            if (fault := name_fault(key)) is None:
                found.add(key.decode())
            else:
                readable = display_name(key.decode(errors="backslashreplace"))
                warnings.append(f"stream '{readable}' is skipped: {fault}; rename it (RENAME)")
    for name in (literal(name) for name in wanted if not is_pattern(name)):
        if fault := name_fault(name.encode(errors="surrogateescape")):
            raise Terminal(f"stream '{display_name(name)}': {fault}; nothing was read; rename it (RENAME)")
        kind = _kind(client, name)
        if kind == b"none":
            raise absent_stream(name)
        if kind != b"stream":
            raise Terminal(
                f"stream {name!r}: expected a stream, found a {kind.decode()}; nothing was read; check the name"
            )
        found.add(name)
    return sorted(found), warnings


def scan_streams(client: redis.Redis, patterns: Sequence[str]) -> Scan:
    """The streams that match at least one of `patterns`, by one scan of every primary. Raises `redis.RedisError`."""
    expressions = [glob_regex(pattern) for pattern in patterns]
    names: set[bytes] = set()
    scans = 0
    for keys in scan_pages(client, match=covering_pattern(patterns), count=_KEYS_PER_SCAN, _type="stream"):
        scans += 1
        names.update(key for key in keys if any(expression.fullmatch(key) for expression in expressions))
    return Scan(sorted(names), scans >= _MANY_SCANS)


def existing_streams(client: redis.Redis, names: Iterable[bytes]) -> list[bytes]:
    """Those of `names` that are streams now. One that may not be asked for stays. Raises `redis.RedisError`."""
    found = []
    names = list(names)
    for first in range(0, len(names), _TYPES_PER_ROUND_TRIP):
        some = names[first : first + _TYPES_PER_ROUND_TRIP]
        try:
            kinds: Sequence[Any] = execute(client, [("TYPE", name) for name in some])
        except redis.exceptions.NoPermissionError:  # the step that reads the stream reports it
            kinds = [b"stream"] * len(some)
        found += [name for name, kind in zip(some, kinds, strict=True) if kind == b"stream"]
    return found


def _kind(client: redis.Redis, name: str) -> bytes:
    """The type of a key, `none` if it does not exist and does not come back within about a second."""
    for pause in (*ABSENCE_SECONDS, None):
        kind: Any = client.type(name)
        if kind != b"none" or pause is None:
            break
        time.sleep(pause)
    found: bytes = kind
    return found
