"""Chunks to archive, and what an archive must hold: computed by pandas and plain Python, without Spillway's code."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import psycopg

from tasks.archive.manifest import Manifest
from tasks.table.chunks import Chunk
from tests.support.oracle import Key, Row

# event time, event_id, event_type, user_id, properties as text
Event = tuple[datetime, str, str, str, str | None]

THURSDAY = datetime(2024, 1, 4, tzinfo=UTC)  # a chunk of seven days begins here
EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# Each of these breaks some reader: empty text, quotes of CSV and JSON, COPY's special characters, line ends, characters
# of four bytes.
AWKWARD = ["", " ", "null", "NULL", "\\N", "\\.", '"', '""', "'", ",", "a,b\n", "\r\n", "\t", "\\", "\\\\n"]
AWKWARD += ["\x01\x1f\x7f", "\u05e9\u05dc\u05d5\u05dd", "\U0001f600\U0010ffff", "e\u0301", "\ufeff", "x" * 3_000]
DOCUMENTS = [None, "null", "{}", "[]", '""', "0", "true", "1e400", "12345678901234567890.1234567890123456789012345670"]
DOCUMENTS += [json.dumps({text: [text, None, {"": text}]}) for text in AWKWARD]


def event(number: int, moment: datetime, kind: str = "click", user: str = "u", properties: str | None = "{}") -> Event:
    return moment, str(uuid.UUID(int=number)), kind, user, properties


def awkward_events(start: datetime = THURSDAY) -> list[Event]:
    """Events with every awkward text as type and as user and with every document, over the seven days from `start`."""
    events = [
        event(
            n,
            start + timedelta(hours=4.5 * n, microseconds=n),
            AWKWARD[n % len(AWKWARD)],
            AWKWARD[-n % len(AWKWARD)],
            document,
        )
        for n, document in enumerate(DOCUMENTS)
    ]
    day, week = start + timedelta(days=1), start + timedelta(days=7)
    edges = [start, day - MICROSECOND, day, week - MICROSECOND]
    return [*events, *(event(1_000 + n, moment) for n, moment in enumerate(edges))]


def plain_events(
    count: int, start: datetime = THURSDAY, first: int = 0, span: timedelta = timedelta(days=7)
) -> list[Event]:
    """Ordinary events, spread over `span`."""
    return [
        event(first + n, start + span * n / count, f"type-{n % 7}", f"user-{n % 50}", json.dumps({"n": first + n}))
        for n in range(count)
    ]


def insert_events(connection: psycopg.Connection, events: Iterable[Event]) -> None:
    with connection.cursor().copy("COPY events (time, event_id, event_type, user_id, properties) FROM STDIN") as copy:
        for row in events:
            copy.write_row(row)


def chunks(connection: psycopg.Connection) -> list[Chunk]:
    connection.execute("SET TimeZone = 'UTC'")
    query = """
        SELECT chunk_schema, chunk_name, range_start, range_end FROM timescaledb_information.chunks
         WHERE hypertable_name = 'events' ORDER BY range_start"""
    return [Chunk(*row) for row in connection.execute(query)]


def only_chunk(connection: psycopg.Connection) -> Chunk:
    (chunk,) = chunks(connection)
    return chunk


@contextmanager
def compressible(connection: psycopg.Connection) -> Iterator[None]:
    """While the block runs, chunks can be compressed. Afterwards the table is empty and has its old settings."""
    connection.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'time')")
    try:
        yield
    finally:
        connection.execute("TRUNCATE events")
        connection.execute("ALTER TABLE events SET (timescaledb.compress = false)")


def compress(connection: psycopg.Connection, chunk: Chunk) -> None:
    connection.execute(
        "SELECT compress_chunk(to_regclass(format('%%I.%%I', %s::text, %s::text)))", [chunk.schema, chunk.table]
    )


def rows_in_order(connection: psycopg.Connection) -> list[Event]:
    """The rows of the table, ordered by time and id. `properties` is the server's text for them."""
    connection.execute("SET TimeZone = 'UTC'")
    query = "SELECT time, event_id::text, event_type, user_id, properties::text FROM events ORDER BY time, event_id"
    return connection.execute(query).fetchall()


def rows_by_pandas(folder: Path | str, manifests: Sequence[Manifest]) -> list[Event]:
    """The rows of archives as pandas reads their files, ordered by time and id."""
    rows: list[Event] = []
    for manifest in manifests:
        for file in manifest.files:
            frame = pd.read_parquet(Path(folder) / file.path).astype(object)
            frame = frame.where(frame.notna(), None)
            for moment, *others in frame.itertuples(index=False):
                rows.append((moment.to_pydatetime().astimezone(UTC), str(others[0]), *others[1:]))
    return sorted(rows, key=lambda row: (row[0], uuid.UUID(row[1]).int))


def as_rows(events: Iterable[Event]) -> dict[Key, Row]:
    """The rows in the form of `tests.support.oracle.table_rows`. Raises if a key occurs twice."""
    rows: dict[Key, Row] = {}
    for moment, event_id, kind, user, properties in events:
        assert (event_id, moment) not in rows
        rows[event_id, moment] = (kind, user, None if properties is None else json.loads(properties))
    return rows


def content_hash(events: Iterable[Event]) -> str:
    """The hash of rows, row by row, from the binary formats that PostgreSQL documents."""
    sums = [0, 0]
    for moment, event_id, kind, user, properties in events:
        micros = (moment - EPOCH_2000) // MICROSECOND
        values = [
            (1184, struct.pack(">q", micros)),
            (2950, uuid.UUID(event_id).bytes),
            (25, kind.encode()),
            (25, user.encode()),
            (3802, None if properties is None else b"\1" + properties.encode()),
        ]
        row = struct.pack(">i", len(values))
        for oid, value in values:
            row += struct.pack(">ii", oid, -1 if value is None else len(value)) + (value or b"")
        digest = hashlib.sha256(row).digest()
        sums = [(total + half) % 2**64 for total, half in zip(sums, struct.unpack(">QQ16x", digest), strict=True)]
    return "".join(f"{half:016x}" for half in sums)
