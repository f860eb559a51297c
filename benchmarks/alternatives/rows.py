"""What every alternative has to do itself: read through a consumer group, and make plain rows of the entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
import redis

from benchmarks.contenders import Workload
from infra.mapping.stream_mapping import BUILT_IN

GROUP, CONSUMER = "alternative", "one"

Fields = Mapping[str, str]


class Row(NamedTuple):
    """A row of `events`, in the order of its columns. `properties` is JSON, as the text that it came in."""

    time: datetime
    event_id: str
    event_type: str
    user_id: str
    properties: str


def flat_row(fields: Fields) -> Row:
    """The row of a generated entry. Its properties are JSON already: to parse them would be work for nothing."""
    time = datetime.fromisoformat(fields["time"])
    return Row(time, fields["event_id"], fields["event_type"], fields["user_id"], fields["properties"])


def crossref_row(fields: Fields) -> Row:
    """The row of a real document, by the mapping in spillway.toml."""
    document = orjson.loads(fields["data"])
    event_type = f"{document['source_id']}.{document['relation_type_id']}"
    time = datetime.fromisoformat(document["occurred_at"])
    return Row(time, document["id"], event_type, document.get("subj_id") or "unknown", fields["data"])


def row_maker(workload: Workload) -> Callable[[Fields], Row]:
    """Which of the two fits the entries of `workload`."""
    return flat_row if workload.mapping is BUILT_IN else crossref_row


class Unseen:
    """Tells rows whose key came before from those that are new, where the entries repeat any.

    What has no ON CONFLICT cannot take a key twice. A set is the cheapest remedy, and lasts only as long as its
    process: an entry that Redis delivers again after a crash would still fail. The honest one, a staging table and
    INSERT … ON CONFLICT, would cost the alternatives a second write. Generated entries repeat none, and pay nothing.
    """

    def __init__(self, workload: Workload) -> None:
        self._seen: set[tuple[str, datetime]] | None = None if workload.mapping is BUILT_IN else set()

    def of(self, rows: list[Row]) -> list[Row]:
        """Those of `rows` that are new."""
        if self._seen is None:
            return rows
        new = []
        for row in rows:
            key = row.event_id, row.time
            if key not in self._seen:
                self._seen.add(key)
                new.append(row)
        return new


def connect(workload: Workload) -> redis.Redis:
    """A client that gives text, as redis-py's documentation has it; hiredis parses."""
    return redis.Redis.from_url(workload.settings.redis, decode_responses=True)


def batches(workload: Workload, size: int) -> Iterator[list[Row]]:
    """The stream from its start through a new consumer group, `size` entries a read.

    A batch is acknowledged when the next one is asked for: commit it before.
    """
    make = row_maker(workload)
    with connect(workload) as client:
        client.xgroup_destroy(workload.stream, GROUP)
        client.xgroup_create(workload.stream, GROUP, id="0")
        while entries := _read(client, workload.stream, size):
            yield [make(fields) for _, fields in entries]
            client.xack(workload.stream, GROUP, *[entry_id for entry_id, _ in entries])


def _read(client: redis.Redis, stream: str, size: int) -> list[tuple[str, Fields]]:
    found: Any = client.xreadgroup(GROUP, CONSUMER, {stream: ">"}, count=size)
    if not found:
        return []
    [(_, entries)] = found
    return list(entries)
