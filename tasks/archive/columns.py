"""Rows of `events` between a binary COPY TO, Arrow columns, and the bytes that are hashed: a column at a time.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 (all integers big-endian)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors import Terminal

# `properties` is the text of the jsonb: a number keeps every digit, and null is not the JSON null.
SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("event_id", pa.uuid(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("properties", pa.string()),
    ]
)

_EPOCH_2000_US = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER = struct.pack("!h", -1)
# Of a row: its number of columns, the time, the id, and the length of event_type, each after its length.
_TIME_AT, _ID_AT, _TYPE_LENGTH_AT, _TYPE_AT = 6, 18, 34, 38
_CELLS = 6  # pieces of a row between two places where a text begins or ends

# As `record_send` writes a row: number of columns, then of each its type's oid, its length and its bytes.
_TIME_HEAD = struct.pack("!iii", 5, 1184, 8)
_ID_HEAD = struct.pack("!ii", 2950, 16)
_TEXT_HEAD = struct.pack("!i", 25)
_JSONB_HEAD = struct.pack("!i", 3802)
_JSONB_VERSION = b"\x01"
_NULL = struct.pack("!i", -1)


def copied_rows(messages: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """The rows of a binary COPY TO, of which the server sends each as a message of its own.

    Raises `Terminal` where the data does not begin and end as it must.
    """
    first, ended = True, False
    for message in messages:
        row = bytes(message)
        if first:
            if not row.startswith(_SIGNATURE):
                raise Terminal(
                    f"COPY TO: expected binary data, found it to begin with {row[:16]!r}; is a proxy between?"
                )
            row, first = row[_HEADER_BYTES:], False
        ended = row == _TRAILER
        if row and not ended:
            yield row
    if not ended:
        raise Terminal("COPY TO: the data has no end; archive the chunk again")


def decode_rows(rows: list[bytes]) -> pa.RecordBatch:
    """Rows of a binary COPY TO of `time, event_id, event_type, user_id, properties`, as `SCHEMA`.

    Below 2 GiB together. Raises `Terminal` where they are not built as such rows are.
    """
    n = len(rows)
    buffer = b"".join(rows)
    data = np.frombuffer(buffer, np.uint8)
    lengths = np.fromiter(map(len, rows), np.int64, n)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    type_end = starts + _TYPE_AT + _integers(data, starts + _TYPE_LENGTH_AT, 4)
    user_end = type_end + 4 + _integers(data, type_end, 4)
    properties_length = _integers(data, user_end, 4)
    null = properties_length < 0
    if n and not (
        (_integers(data, starts, 2) == len(SCHEMA)).all()
        and (user_end + 4 + np.maximum(properties_length, 0) == ends).all()
    ):
        raise Terminal("COPY TO: a row is not built as expected; is `events` the table of schema.sql?")
    offsets = np.empty(_CELLS * n + 1, np.int32)
    places = (starts, starts + _TYPE_AT, type_end, type_end + 4, user_end, user_end + 4 + ~null)
    for number, place in enumerate(places):
        offsets[number:-1:_CELLS] = place
    offsets[-1] = len(buffer)
    cells = pa.Array.from_buffers(pa.binary(), _CELLS * n, [None, pa.py_buffer(offsets), pa.py_buffer(buffer)])

    def text(cell: int) -> pa.Array:
        return cells.take(pa.array(np.arange(cell, _CELLS * n, _CELLS))).cast(pa.string())

    properties = pc.if_else(pa.array(null), pa.scalar(None, pa.string()), text(5))
    times = _integers(data, starts + _TIME_AT, 8) + _EPOCH_2000_US
    return pa.record_batch(
        [_times(times), _uuids(_gather(data, starts + _ID_AT, 16)), text(1), text(3), properties], SCHEMA
    )


def row_hashes(batch: pa.RecordBatch) -> list[bytes]:
    """Of each row of a batch in `SCHEMA` the SHA-256 of the bytes that the server's `record_send` gives of it."""
    rows = _sent(batch)
    offsets = np.frombuffer(rows.buffers()[1], np.int32).tolist()
    data = memoryview(rows.buffers()[2] or b"")
    sha256 = hashlib.sha256
    return [sha256(data[start:stop]).digest() for start, stop in pairwise(offsets)]


def time_us(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """The times of a batch in `SCHEMA` in microseconds since 1970."""
    return np.asarray(batch.column("time").view(pa.int64()), np.int64)


def _sent(batch: pa.RecordBatch) -> pa.Array:
    n = batch.num_rows
    head = np.empty((n, len(_TIME_HEAD) + 8 + len(_ID_HEAD)), np.uint8)
    head[:, : len(_TIME_HEAD)] = np.frombuffer(_TIME_HEAD, np.uint8)
    head[:, len(_TIME_HEAD) : -len(_ID_HEAD)] = (
        (time_us(batch) - _EPOCH_2000_US).astype(">i8").view(np.uint8).reshape(n, 8)
    )
    head[:, -len(_ID_HEAD) :] = np.frombuffer(_ID_HEAD, np.uint8)
    kind, user, properties = (batch.column(name).cast(pa.binary()) for name in SCHEMA.names[2:])
    properties_head = _prefix(_JSONB_HEAD, properties, _JSONB_VERSION)
    if properties.null_count:
        properties_head = pc.if_else(properties.is_null(), pa.scalar(_JSONB_HEAD + _NULL, pa.binary()), properties_head)
    rows: pa.Array = pc.binary_join_element_wise(
        _fixed(head),
        batch.column("event_id").storage.cast(pa.binary()),
        _prefix(_TEXT_HEAD, kind),
        kind,
        _prefix(_TEXT_HEAD, user),
        user,
        properties_head,
        properties,
        pa.scalar(b"", pa.binary()),
        null_handling="replace",
        null_replacement="",
    )
    return rows


def _prefix(head: bytes, values: pa.Array, version: bytes = b"") -> pa.Array:
    """What stands before each value: `head`, the length, and `version`, which counts as a part of the value."""
    out = np.empty((len(values), len(head) + 4 + len(version)), np.uint8)
    lengths = np.asarray(pc.binary_length(values).fill_null(0)) + len(version)
    out[:, : len(head)] = np.frombuffer(head, np.uint8)
    out[:, len(head) : len(head) + 4] = lengths.astype(">i4").view(np.uint8).reshape(-1, 4)
    out[:, len(head) + 4 :] = np.frombuffer(version, np.uint8)
    return _fixed(out)


def _fixed(table: NDArray[np.uint8]) -> pa.Array:
    """The rows of a byte table, shape (n, width), as a binary array over the same memory."""
    n, width = table.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(table)])


def _gather(data: NDArray[np.uint8], at: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """`width` bytes from each place, shape (n, width). Raises `Terminal` where they lie outside of the data."""
    if len(at) and (at.min() < 0 or at.max() + width > len(data)):
        raise Terminal("COPY TO: a row is not built as expected; is `events` the table of schema.sql?")
    gathered: NDArray[np.uint8] = data[at[:, None] + np.arange(width)]
    return gathered


def _integers(data: NDArray[np.uint8], at: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return _gather(data, at, width).view(f">i{width}")[:, 0].astype(np.int64)


def _times(micros: NDArray[np.int64]) -> pa.Array:
    return pa.Array.from_buffers(SCHEMA.field("time").type, len(micros), [None, pa.py_buffer(micros)])


def _uuids(table: NDArray[np.uint8]) -> Any:
    storage = pa.Array.from_buffers(pa.binary(16), len(table), [None, pa.py_buffer(np.ascontiguousarray(table))])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)
