"""Chunks: the tables that a hypertable is made of, each with the times of a range."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Chunk:
    """One chunk of `events`: its table, and the times from `range_start` to before `range_end`, the only ones in it."""

    schema: str
    table: str
    range_start: datetime
    range_end: datetime
