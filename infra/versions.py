"""Which servers Spillway works with: one truth for `up`, `status` and the check before every run."""

from __future__ import annotations

MIN_REDIS = (7, 0)  # entries-added, without which a loss cannot be seen
MIN_POSTGRES = 15
MIN_TIMESCALE = (2, 18, 1)  # 2.17 loses rows in INSERT ... ON CONFLICT: timescaledb issue 7672


def unfit_redis(version: str, mode: str = "standalone") -> str | None:
    """Why a Redis of this version and `redis_mode` (INFO) will not do, with the next step; None if it will."""
    if mode == "sentinel":
        return "it is a Sentinel, expected the Redis that it watches; point SPILLWAY_REDIS_URL at the primary"
    if mode == "cluster":
        return (
            "it is a node of a Redis Cluster, expected a single server: a node has only a part of the streams, and"
            " Spillway cannot read from all of them yet; nothing was read or written; point SPILLWAY_REDIS_URL at a"
            " Redis without cluster mode"
        )
    if _numbers(version)[:2] < MIN_REDIS:
        return f"it is version {version}, expected {'.'.join(map(str, MIN_REDIS))} or later; upgrade it"
    return None


def unfit_database(version_num: int, timescale: str | None) -> str | None:
    """The same of a PostgreSQL by its `server_version_num` and the version of its TimescaleDB, None if it has none."""
    if version_num < MIN_POSTGRES * 10_000:
        return f"it is PostgreSQL {version_num // 10_000}, expected {MIN_POSTGRES} or later; upgrade it"
    if timescale is not None and _numbers(timescale) < MIN_TIMESCALE:
        return (
            f"its TimescaleDB is {timescale}, expected {'.'.join(map(str, MIN_TIMESCALE))} or later (2.17 can lose rows"
            " silently, timescaledb issue 7672); ALTER EXTENSION timescaledb UPDATE"
        )
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdigit())
