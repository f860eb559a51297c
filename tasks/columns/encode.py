"""Encode events as rows of a binary COPY, one column at a time. Events with extra columns become lines of a text COPY.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 (all integers big-endian)
"""

from __future__ import annotations

import binascii
import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import POSTGRES_EPOCH_US
from tasks.columns.decode import Events
from tasks.columns.times import format_times

HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
TRAILER = struct.pack("!h", -1)
COLUMNS = ("time", "event_id", "event_type", "user_id", "properties")

_BEFORE_TIME = struct.pack("!hi", len(COLUMNS), 8)
_BEFORE_ID = struct.pack("!i", 16)
_TIME_AT, _ID_AT, _TYPE_LENGTH_AT = 6, 18, 34
_HEAD = 38  # bytes of a row before the text of event_type
_JSONB_VERSION = b"\x01"
_NULL = struct.pack("!i", -1)


# The escapes of the text format. The backslash comes first, because the other escapes contain one.
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_NULL_TEXT = b"\\N"


def encode(events: Events) -> pa.Array:
    """One COPY row per event: binary, n. In the text format if there are extra columns, else in the binary format.

    Only the server can parse the values of every type, so extra columns travel as text.
    """
    return encode_text(events) if events.extra_columns else encode_binary(events)


def encode_text(events: Events) -> pa.Array:
    """One line of a text COPY per event: `time, event_id, event_type, user_id, properties`, and the extra columns."""
    columns = [
        format_times(pa.array(events.time).view(pa.timestamp("us"))).cast(pa.binary()),
        _fixed(_hex(events.event_id)),
        *map(_escaped, (events.event_type, events.user_id, events.properties, *events.extra_columns)),
    ]
    lines = pc.binary_join_element_wise(*columns, b"\t")
    ended: pa.Array = pc.binary_join_element_wise(lines, b"\n", b"")
    return ended


def _hex(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.frombuffer(binascii.hexlify(table.tobytes()), np.uint8).reshape(len(table), 2 * table.shape[1])


def _escaped(values: pa.Array) -> pa.Array:
    for sign, escaped in _ESCAPES:
        values = pc.replace_substring(values, sign, escaped)
    return values.fill_null(_NULL_TEXT)


def encode_binary(events: Events) -> pa.Array:
    """One row of a binary COPY per event: binary, n. A slice of its data buffer can be sent as it is (see `payload`).

    Columns: `time, event_id, event_type, user_id, properties`. `properties` travels as JSON text; the server parses it.
    """
    n = len(events)
    head = np.empty((n, _HEAD), np.uint8)
    head[:, :_TIME_AT] = np.frombuffer(_BEFORE_TIME, np.uint8)
    head[:, _TIME_AT : _TIME_AT + 8] = _big_endian(events.time - POSTGRES_EPOCH_US, ">i8")
    head[:, _ID_AT - 4 : _ID_AT] = np.frombuffer(_BEFORE_ID, np.uint8)
    head[:, _ID_AT : _ID_AT + 16] = events.event_id
    head[:, _TYPE_LENGTH_AT:] = _big_endian(_lengths(events.event_type), ">i4")
    user_length = _big_endian(_lengths(events.user_id), ">i4")
    rows: pa.Array = pc.binary_join_element_wise(
        _fixed(head),
        events.event_type,
        _fixed(user_length),
        events.user_id,
        _properties_prefix(events.properties),
        events.properties,
        pa.scalar(b"", pa.binary()),
        null_handling="replace",
        null_replacement="",
    )
    return rows


def _properties_prefix(properties: pa.Array) -> pa.Array:
    prefix = np.empty((len(properties), 5), np.uint8)
    prefix[:, :4] = _big_endian(_lengths(properties) + 1, ">i4")
    prefix[:, 4] = _JSONB_VERSION[0]
    fixed = _fixed(prefix)
    if properties.null_count:
        return pc.if_else(properties.is_null(), pa.scalar(_NULL, pa.binary()), fixed)
    return fixed


def _lengths(texts: pa.Array) -> NDArray[np.int32]:
    lengths: NDArray[np.int32] = np.asarray(pc.binary_length(texts).fill_null(0))
    return lengths


def _big_endian(numbers: NDArray[np.signedinteger], kind: str) -> NDArray[np.uint8]:
    swapped = numbers.astype(kind)
    return swapped.view(np.uint8).reshape(len(numbers), swapped.itemsize)


def _fixed(table: NDArray[np.uint8]) -> pa.Array:
    """The rows of a byte matrix, shape (n, width), as a binary array, n, that shares its memory."""
    n, width = table.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(table)])


def payload(rows: pa.Array) -> memoryview:
    """The bytes of an encoded array, or of a slice of one, without a copy."""
    offsets = np.frombuffer(rows.buffers()[1], np.int32)
    start, stop = int(offsets[rows.offset]), int(offsets[rows.offset + len(rows)])
    return memoryview(rows.buffers()[2])[start:stop]


def find_repeats(events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Find the rows whose key `(event_id, time)` occurs earlier in the stream.

    Returns these rows in stream order, and for each of them the first row with its key. None if all keys differ.
    """
    ids = np.ascontiguousarray(events.event_id).view(">u8")
    low = np.sort(ids[:, 1])
    if not (low[1:] == low[:-1]).any():  # one sort of the random half of v4 UUIDs usually proves that all differ
        return None
    # By key, then by stream order: a batch holds one group after another, so row order is not stream order.
    order = np.lexsort((events.stream_order, events.time, ids[:, 1], ids[:, 0]))
    same = np.zeros(len(order), bool)
    same[1:] = (ids[order[1:]] == ids[order[:-1]]).all(axis=1) & (events.time[order[1:]] == events.time[order[:-1]])
    if not same.any():
        return None
    starts = np.flatnonzero(~same)
    first = order[starts[np.cumsum(~same) - 1]]
    later = order[same]
    by_order = np.argsort(events.stream_order[later])
    return later[by_order], first[same][by_order]
