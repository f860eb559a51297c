"""Convert rows between a binary COPY TO, Arrow columns, and the bytes that are hashed, one column at a time.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.4 (all integers big-endian)
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.epoch import POSTGRES_EPOCH_US
from infra.errors.exceptions import Terminal
from tasks.columns.column_forms import NEVER_NULL, STANDARD_COLUMNS, Column, Form, form_of, schema_of
from tasks.files.formats.as_text import as_text
from tasks.files.formats.blocks import copy_slices

_DAY_US = 86_400_000_000
_EPOCH_2000_DAYS = 10_957  # PostgreSQL counts the days of a date from 2000-01-01
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_HEADER_BYTES = len(_SIGNATURE) + 8
_TRAILER = struct.pack("!h", -1)
_JSONB_OID, _JSONB_VERSION = 3802, b"\x01"
_UUID_BYTES = 16

CopiedRows = NDArray[np.uint8]  # shape (n, width)


def copied_rows(messages: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """The rows of a binary COPY TO. The server sends each row as one message.

    Raises `Terminal` if the data has no valid header or trailer.
    """
    first, ended = True, False
    for message in messages:
        row = bytes(message)
        if first:
            if not row.startswith(_SIGNATURE):
                raise Terminal(
                    f"COPY TO: expected binary data, found data that starts with {row[:16]!r}; nothing was dropped;"
                    " check whether a proxy changes it"
                )
            row, first = row[_HEADER_BYTES:], False
        ended = row == _TRAILER
        if row and not ended:
            yield row
    if not ended:
        raise Terminal("COPY TO: expected a trailer, found none; nothing was dropped; archive the chunk again")


def decode_rows(
    rows: list[bytes], columns: Sequence[Column] = STANDARD_COLUMNS, never_null: Sequence[str] = NEVER_NULL
) -> pa.RecordBatch:
    """Rows of a binary COPY TO (see `select_list`) as a batch with the schema `schema_of(columns, never_null)`.

    All rows together are smaller than 2 GiB. Raises `Terminal` if they are malformed.
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    data = np.frombuffer(b"".join(rows), np.uint8)
    ends = np.cumsum(lengths)
    starts = at = ends - lengths
    forms = [form_of(column.form) for column in columns]
    sound = (_integers(data, starts, 2) == len(columns)).all()
    at = at + 2
    spans = []
    for form in forms:
        length = _integers(data, at, 4)
        null = length < 0
        sound &= form.width is None or (null | (length == form.width)).all()
        start, at = at + 4, at + 4 + np.maximum(length, 0)
        spans.append((start, at, null if null.any() else None))
    if not (sound and (at == ends).all()):
        raise Terminal("COPY TO: found a malformed row; nothing was dropped; archive the chunk again")
    arrays = [_decoded(form, data, *span) for form, span in zip(forms, spans, strict=True)]
    return pa.record_batch(arrays, schema_of(columns, never_null))


def row_hashes(batch: pa.RecordBatch, columns: Sequence[Column] = STANDARD_COLUMNS) -> list[bytes]:
    """The SHA-256 of each row, as the server hashes the output of `record_send`. The batch has `schema_of(columns)`."""
    rows = _sent(batch, columns)
    offsets = np.frombuffer(rows.buffers()[1], np.int32).tolist()
    data = memoryview(rows.buffers()[2] or b"")
    sha256 = hashlib.sha256
    return [sha256(data[start:stop]).digest() for start, stop in pairwise(offsets)]


def time_us(batch: pa.RecordBatch, time: str = "time") -> NDArray[np.int64]:
    """The times of a batch in microseconds since 1970, from its column `time`."""
    column = batch.column(time)
    if pa.types.is_date32(column.type):
        return np.asarray(column.view(pa.int32()), np.int64) * _DAY_US
    return np.asarray(column.view(pa.int64()), np.int64)


def _decoded(
    form: Form, data: NDArray[np.uint8], start: NDArray[np.int64], stop: NDArray[np.int64], null: Any
) -> pa.Array:
    if form.width is None:
        if form.oid == _JSONB_OID:
            start = start + (1 if null is None else ~null)
        values = copy_slices(data, start, stop, null)
        if pa.types.is_binary(form.arrow):
            return values
        texts = values.cast(pa.string())
        return texts.cast(form.arrow) if pa.types.is_decimal(form.arrow) else texts
    if null is not None:
        start = np.where(null, 0, start)
    table = _gather(data, start, form.width)
    validity = None if null is None else pa.array(~null).buffers()[1]
    if pa.types.is_boolean(form.arrow):
        return pa.array(table[:, 0] != 0, mask=null)
    if form.arrow == pa.uuid():
        storage = pa.Array.from_buffers(pa.binary(_UUID_BYTES), len(table), [validity, pa.py_buffer(table)])
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    numbers = table.view(f">i{form.width}")[:, 0].astype(f"<i{form.width}")
    return pa.Array.from_buffers(form.arrow, len(numbers), [validity, pa.py_buffer(numbers + _since_2000(form))])


def _since_2000(form: Form) -> Any:
    """The offset from PostgreSQL's epoch, which is 2000, to that of Arrow; 0 for numbers."""
    if pa.types.is_timestamp(form.arrow):
        return np.int64(POSTGRES_EPOCH_US)
    return np.int32(_EPOCH_2000_DAYS) if pa.types.is_date(form.arrow) else np.dtype(f"i{form.width}").type(0)


def _sent(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.Array:
    """The rows as `record_send` writes them: the number of columns, then oid, length and bytes of each value."""
    n = batch.num_rows
    fixed = [
        _repeated(struct.pack("!i", len(columns)), n)
    ]  # parts of the next piece, each of the same width in all rows
    pieces: list[pa.Array] = []
    for column in columns:
        form, values = form_of(column.form), batch.column(column.name)
        if form.width is None:
            values = as_text(values) if pa.types.is_decimal(values.type) else values.cast(pa.binary())
            head = _head(form, values)
        else:
            head = np.concatenate([_repeated(struct.pack("!ii", form.oid, form.width), n), _bytes(form, values)], 1)
        if values.null_count:
            null = pa.scalar(struct.pack("!ii", form.oid, -1), pa.binary())
            pieces += [_joined(fixed), pc.if_else(values.is_null(), null, _fixed(head))]
            fixed = [np.empty((n, 0), np.uint8)]
        else:
            fixed.append(head)
        if form.width is None:
            pieces += [_joined(fixed), values]
            fixed = [np.empty((n, 0), np.uint8)]
    rows: pa.Array = pc.binary_join_element_wise(
        *pieces, _joined(fixed), pa.scalar(b"", pa.binary()), null_handling="replace", null_replacement=""
    )
    return rows


def _head(form: Form, values: pa.Array) -> CopiedRows:
    """The prefix of each value: oid, length, and for jsonb the version, which counts towards the length."""
    version = _JSONB_VERSION if form.oid == _JSONB_OID else b""
    lengths = np.asarray(pc.binary_length(values).fill_null(0)) + len(version)
    n = len(values)
    sizes = lengths.astype(">i4").view(np.uint8).reshape(n, 4)
    return np.concatenate([_repeated(struct.pack("!i", form.oid), n), sizes, _repeated(version, n)], 1)


def _bytes(form: Form, values: pa.Array) -> CopiedRows:
    """The values of a fixed-width type as the server sends them; undefined bytes for null."""
    n, width = len(values), form.width or 0
    if form.arrow == pa.uuid():
        raw = np.frombuffer(values.storage.buffers()[1] or b"", np.uint8)
        uuids: CopiedRows = raw[values.offset * width : (values.offset + n) * width].reshape(n, width)
        return uuids
    if pa.types.is_boolean(form.arrow):
        return np.asarray(values.cast(pa.uint8()).fill_null(0), np.uint8).reshape(n, 1)
    numbers: NDArray[np.signedinteger] = np.asarray(values.view(f"int{8 * width}").fill_null(0)) - _since_2000(form)
    return numbers.astype(f">i{width}").view(np.uint8).reshape(n, width)


def _repeated(data: bytes, n: int) -> CopiedRows:
    """A table of n rows that all hold `data`."""
    return np.broadcast_to(np.frombuffer(data, np.uint8), (n, len(data)))


def _joined(tables: list[CopiedRows]) -> pa.Array:
    return _fixed(np.concatenate(tables, 1))


def _fixed(table: CopiedRows) -> pa.Array:
    """The rows of a byte table as a binary array."""
    n, width = table.shape
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(width)
    data = np.ascontiguousarray(table)  # numpy may have joined tables column by column
    return pa.Array.from_buffers(pa.binary(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _gather(data: NDArray[np.uint8], at: NDArray[np.int64], width: int) -> CopiedRows:
    """`width` bytes from each offset. Raises `Terminal` if an offset lies outside the data."""
    if len(at) and (at.min() < 0 or at.max() + width > len(data)):
        raise Terminal("COPY TO: found a malformed row; nothing was dropped; archive the chunk again")
    gathered: CopiedRows = data[at[:, None] + np.arange(width)]
    return gathered


def _integers(data: NDArray[np.uint8], at: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    return _gather(data, at, width).view(f">i{width}")[:, 0].astype(np.int64)
