"""Processor time of whole trees of processes, from /proc. Needs Linux."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from infra.settings import Settings

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ServerSeconds:
    """Processor time in seconds that the two servers have used."""

    redis: float
    postgres: float

    def __sub__(self, earlier: ServerSeconds) -> ServerSeconds:
        return ServerSeconds(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))


class ServerClocks:
    """The processor time of Redis, and of PostgreSQL with all its backends and workers."""

    def __init__(self, settings: Settings) -> None:
        self._redis = redis.Redis.from_url(settings.redis)
        with psycopg.connect(settings.database) as connection:
            self._postmaster = parent_of(connection.info.backend_pid)

    def now(self) -> ServerSeconds:
        """What they have used so far."""
        used: Any = self._redis.info("cpu")
        return ServerSeconds(used["used_cpu_user"] + used["used_cpu_sys"], tree_seconds(self._postmaster))


def tree_seconds(pid: int) -> float:
    """Seconds of a process, of its children that have ended, and of those that live; 0 if there is no such process."""
    return _tree(pid, _children())


def parent_of(pid: int) -> int:
    """The id of a process's parent. Raises `FileNotFoundError` if there is no such process."""
    return int(_stat(pid)[1])


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.setdefault(parent_of(int(folder.name)), []).append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _tree(pid: int, children: Mapping[int, Sequence[int]]) -> float:
    try:
        own = sum(int(ticks) for ticks in _stat(pid)[11:15]) / _TICKS
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return own + sum(_tree(child, children) for child in children.get(pid, ()))
