"""Rows of `events` made from columns, and their bytes in a COPY."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.tables.table import TableColumn
from tasks.columns.decode import DecodedRows
from tasks.columns.encode_rows import encode_rows
from tasks.columns.repeated_keys import find_repeats
from tasks.columns.types.column_type import ColumnType
from tasks.columns.types.registry import type_of
from tests.support.events_layouts import ANY

COLUMNS = ANY.names
TIME, UUID, TEXT = pa.timestamp("us", tz="UTC"), pa.binary(16), pa.binary()
SERVER_ONLY = type_of(TableColumn("words", "tsvector", "tsvector"))  # a type that Spillway does not encode

# Time in microseconds since 1970, the bytes of a UUID, event_type, user_id, properties.
Row = tuple[int, bytes, str, str, str | None]


def rows_of(columns: Sequence[pa.Array], entry: NDArray[np.int64] | None = None) -> DecodedRows:
    """Rows in stream order with these columns. `entry`: the indices of their entries, if these have another order."""
    order = np.arange(len(columns[0]), dtype=np.int64)
    times = np.asarray(columns[0].view(pa.int64()))
    rows = pa.RecordBatch.from_arrays(list(columns), names=list(COLUMNS))
    return DecodedRows(rows, order if entry is None else entry, order, times)


def columns_of(rows: Sequence[Row]) -> list[pa.Array]:
    """The columns of rows, each of the type that `decode` gives it."""
    columns: list[list[object]] = [[row[number] for row in rows] for number in range(5)]
    return [
        pa.array([text.encode() if isinstance(text, str) else text for text in column], arrow)
        for column, arrow in zip(columns, (TIME, UUID, TEXT, TEXT, TEXT), strict=True)
    ]


def encode(rows: DecodedRows) -> pa.Array:
    """The rows as a COPY."""
    return encode_rows(rows.rows, ANY.types)


def encode_with_words(rows: DecodedRows, words: pa.Array) -> pa.Array:
    """The rows as a COPY, with a last column whose texts only the server understands."""
    types: list[ColumnType] = [*ANY.types, SERVER_ONLY]
    return encode_rows(rows.rows.append_column("words", words), types)


def repeats_of(rows: DecodedRows) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The rows that repeat the key of `events`, and the rows that they repeat."""
    return find_repeats(rows.rows.select(list(ANY.key)), rows.stream_order)
