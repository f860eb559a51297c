"""Entries to add to a stream, and their ids."""

from __future__ import annotations

import json
import uuid

import redis

FIRST_MS = 1_700_000_000_000  # milliseconds of the id of entry number 0

SENSOR_READINGS = [
    {b"ts": b"%d" % (1_764_000_000_000 + n), b"sensorId": b"s%d" % (n % 3), b"kind": b"temp", b"celsius": b"20.5"}
    for n in range(1_200)
]


def event(number: int, **changes: str) -> dict[bytes, bytes]:
    """A good flat entry. A change to "" leaves the field out."""
    fields = {
        "event_id": str(uuid.UUID(int=number)),
        "event_type": "click",
        "user_id": f"user-{number % 7}",
        "time": f"2026-11-20T10:{number // 60 % 60:02}:{number % 60:02}Z",
        "properties": json.dumps({"n": number, "text": "né ✓"}),
    } | changes
    return {name.encode(): value.encode() for name, value in fields.items() if value}


def add_entries(client: redis.Redis, stream: str, first: int, stop: int, offset: int = 0) -> None:
    """Add entries `first` to `stop - 1`, one a millisecond from `FIRST_MS` on. Entry n holds event n + `offset`."""
    with client.pipeline() as pipeline:
        for n in range(first, stop):
            pipeline.xadd(stream, event(n + offset), id=f"{FIRST_MS + n}-0")  # type: ignore[arg-type]
        pipeline.execute()
