"""Events to the bytes of a binary COPY, a column at a time; with columns of the user's own to the lines of a text COPY.

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


# What the text format of COPY has signs for. The backslash first: the others bring one.
_ESCAPES = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_NULL_TEXT = b"\\N"


def encode(events: Events) -> pa.Array:
    """One row of a COPY per event, in the text format if there are columns of the user's own, else in the binary one.

    Returns binary, n. The text format, because only the server knows how to read the values of every type.
    """
    return encode_text(events) if events.extra_columns else encode_binary(events)


def encode_text(events: Events) -> pa.Array:
    """One line of a text COPY per event: `time, event_id, event_type, user_id, properties`, and the user's own."""
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
    """One row of a binary COPY per event: large enough slices of its data buffer are what COPY takes.

    Returns binary, n: `time, event_id, event_type, user_id, properties`. The JSON of `properties` goes as the text it
    is: the server reads it.
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
    """The rows of a byte table, shape (n, width), as a binary array over the same memory."""
    n, width = table.shape
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(table)])


def payload(rows: pa.Array) -> memoryview:
    """The bytes of the rows of an encoded array or a slice of one, without a copy."""
    offsets = np.frombuffer(rows.buffers()[1], np.int32)
    start, stop = int(offsets[rows.offset]), int(offsets[rows.offset + len(rows)])
    return memoryview(rows.buffers()[2])[start:stop]


def find_repeats(events: Events) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The rows whose key `(event_id, time)` stands earlier in the stream, in its order, and the first row of each key.

    None: all keys differ.
    """
    ids = np.ascontiguousarray(events.event_id).view(">u8")
    low = np.sort(ids[:, 1])
    if not (low[1:] == low[:-1]).any():  # the random half of a v4 UUID tells nearly all apart, at one sort
        return None
    # By key, and within a key by id: groups of different shapes follow each other in a batch.
    order = np.lexsort((events.stream_order, events.time, ids[:, 1], ids[:, 0]))
    same = np.zeros(len(order), bool)
    same[1:] = (ids[order[1:]] == ids[order[:-1]]).all(axis=1) & (events.time[order[1:]] == events.time[order[:-1]])
    if not same.any():
        return None
    starts = np.flatnonzero(~same)
    first = order[starts[np.cumsum(~same) - 1]]
    later = order[same]
    by_place = np.argsort(events.stream_order[later])
    return later[by_place], first[same][by_place]
