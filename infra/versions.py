"""The versions of the servers that Spillway works with. Their only definition; schema.sql is generated with them."""

from __future__ import annotations

import re

from packaging.version import Version

MIN_REDIS = Version("7.0")  # the first whose streams report entries-added, without which a loss cannot be detected
MIN_POSTGRES = 15  # major version
# 2.17 silently loses rows in INSERT ... ON CONFLICT: https://github.com/timescale/timescaledb/issues/7672
MIN_TIMESCALEDB = Version("2.18.1")
NEWEST_TESTED_TIMESCALEDB = Version("2.29.2")

# Direct compression of a COPY. Before 2.26.0 rows could be lost (https://github.com/timescale/timescaledb/issues/9381),
# and before 2.28.1 CHECK and NOT NULL were not enforced (https://github.com/timescale/timescaledb/issues/10056).
MIN_DIRECT_COMPRESSION = Version("2.28.1")

_NUMBERS = re.compile(r"\d+(\.\d+)*")


def parse_version(text: str) -> Version:
    """The numbers that `text` begins with: `2.28.3-dev` counts as 2.28.3. `0` if there are none."""
    numbers = _NUMBERS.match(text)
    return Version(numbers[0] if numbers else "0")


def can_compress_directly(timescaledb: str | None) -> bool:
    """Whether a TimescaleDB of this version compresses rows of a COPY safely."""
    return timescaledb is not None and parse_version(timescaledb) >= MIN_DIRECT_COMPRESSION


def unsupported_redis(version: str, mode: str = "standalone") -> str | None:
    """Why Spillway cannot work with a Redis of this version and `redis_mode` (INFO), with the next step; else None."""
    if mode == "sentinel":
        return (
            "it is a Sentinel, expected the Redis that it watches; name Sentinel and service in SPILLWAY_REDIS_URL"
            " (redis+sentinel://host:26379/service)"
        )
    if parse_version(version) < MIN_REDIS:
        return f"it is version {version}, expected {MIN_REDIS} or later; upgrade it"
    return None


def unsupported_database(version_num: int, timescaledb: str | None) -> str | None:
    """Why Spillway cannot work with a PostgreSQL of this `server_version_num` and TimescaleDB (None: not installed),
    with the next step; else None."""
    if version_num < MIN_POSTGRES * 10_000:
        return f"it is PostgreSQL {version_num // 10_000}, expected {MIN_POSTGRES} or later; upgrade it"
    if timescaledb is not None and parse_version(timescaledb) < MIN_TIMESCALEDB:
        return (
            f"its TimescaleDB is {timescaledb}, expected {MIN_TIMESCALEDB} or later (2.17 can lose rows silently,"
            " timescaledb issue 7672); ALTER EXTENSION timescaledb UPDATE"
        )
    return None
