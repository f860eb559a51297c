"""Puts entries that cannot become a row into the quarantine: unchanged, with the field at fault and the reason.

A COPY of whole columns, since half of a range may be rejected: taking the entries out of their columns one by one cost
as much as the rows of the others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import psycopg
import pyarrow as pa

from tasks.columns.batch import Batch
from tasks.columns.decode import Fault
from tasks.columns.encode_rows import HEADER, TRAILER
from tasks.columns.entries import EntryColumns
from tasks.columns.row_pieces import RowPieces
from tasks.columns.types.arrays import Array
from tasks.columns.types.bytea import BYTEA
from tasks.columns.wire import big_endian
from tasks.table.stage import write_rows

_STREAM = "SELECT id FROM spillway.streams WHERE name = %s"
_COPY = """
    COPY spillway.quarantine (stream, entry_id, part, fields, kind, field, reason) FROM STDIN (FORMAT BINARY)"""
_COLUMNS = 7
_BYTEA_OID = 17
_FIELDS = Array(pa.list_(pa.binary()), "", element=BYTEA, oid=_BYTEA_OID)


def quarantine_entries(connection: psycopg.Connection, batch: Batch, faults: Sequence[Fault]) -> None:
    """Insert the entries with faults into the quarantine, in the caller's transaction. Raises `psycopg.Error`."""
    if not faults:
        return
    stream = connection.execute(_STREAM, [batch.stream]).fetchone()
    assert stream is not None  # the range in the ledger refers to it
    parts = np.array([fault.entry for fault in faults], np.int64)
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write(HEADER)
        for positions, entries in batch.entries_of(parts):
            some = [faults[position] for position in positions.tolist()]
            numbers = batch.part_numbers(parts[positions])
            write_rows(connection, copy, _rows(stream[0], entries, numbers, some))
        copy.write(TRAILER)


def kind(fault: Fault) -> str:
    """The kind of a fault in the quarantine: `conflict` or `refused`."""
    return "conflict" if fault.conflict else "refused"


def storable(text: str) -> str:
    """`text` with escapes for what a text column cannot hold: NUL and lone surrogates, which a reason may quote."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def _rows(stream: int, entries: EntryColumns, numbers: np.ndarray, faults: Sequence[Fault]) -> pa.Array:
    """Rows of the quarantine as a binary COPY has them: binary, n."""
    pieces = RowPieces(len(entries))
    pieces.constant(struct.pack("!hii", _COLUMNS, 4, stream))
    pieces.column(entries.ids, b"", entries.ids)
    pieces.column(big_endian(numbers, ">i4"), b"", entries.ids)
    fields = _encode_fields(entries)
    pieces.column(fields, b"", fields)
    for texts in (
        [kind(fault) for fault in faults],
        [storable(fault.field) for fault in faults],
        [storable(fault.reason) for fault in faults],
    ):
        values = pa.array([text.encode() for text in texts], pa.binary())
        pieces.column(values, b"", values)
    return pieces.join()


def _encode_fields(entries: EntryColumns) -> pa.Array:
    """Names and values in turn, as `EntryColumns.raw` gives them, each entry's as a binary `bytea[]`: binary, n."""
    if entries.keys is None:
        return _FIELDS.encode(entries.values[0])
    if not entries.keys or any(array.null_count for array in entries.values):
        fields = [entries.raw(at)[1] for at in range(len(entries))]
        return _FIELDS.encode(pa.array(fields, pa.list_(pa.binary())))
    pieces = RowPieces(len(entries))
    pieces.constant(struct.pack("!iiIii", 1, 0, _BYTEA_OID, 2 * len(entries.keys), 1))  # see array_recv
    for key, values in zip(entries.keys, entries.values, strict=True):
        pieces.constant(struct.pack("!i", len(key)) + key)
        pieces.column(values, b"", values)
    return pieces.join()
