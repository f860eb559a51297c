"""Sealed sections of a spool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from tasks.files.formats.blocks import RowBlock
from tasks.files.spool import Spool, SpoolSection


def document(row: int, day: int) -> bytes:
    """An event of that day with its row number. Day 0 means an event without a time."""
    moment = datetime.fromtimestamp(day / 1000, UTC) + timedelta(seconds=row % 86_400)
    fields = {"event_id": str(uuid.UUID(int=row)), "event_type": "t", "user_id": "u", "properties": {"row": row}}
    return json.dumps(fields | ({"time": moment.isoformat()} if day else {})).encode()


def spooled_section(spool: Spool, days: Sequence[int], block_rows: int = 1_000) -> SpoolSection:
    """A sealed section with a row of each of these days, numbered from 1 and added in blocks of `block_rows` rows."""
    section = SpoolSection(spool)
    for start in range(0, len(days), block_rows):
        part = days[start : start + block_rows]
        numbers = range(start + 1, start + 1 + len(part))
        texts = pa.array([document(row, day) for row, day in zip(numbers, part, strict=True)], pa.binary())
        section.add(RowBlock(np.array(numbers, np.int64), (b"data",), (texts,)), np.array(part, np.int64))
    section.seal()
    return section
