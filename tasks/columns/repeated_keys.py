"""Find the rows of a batch that repeat the key of another row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.types.arrow_values import is_text, numbers_of
from tasks.columns.types.column_type import ColumnType

_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 divided by the golden ratio: spreads neighbouring numbers


def is_exact(keys: pa.RecordBatch, types: Sequence[ColumnType]) -> bool:
    """Whether two keys are equal for the server if and only if they are equal here.

    A text that only the server can parse may be another spelling of the same value. `TableColumn.constrained` covers a
    collation in which different texts are equal.
    """
    return all(kind.exact and kind.arrow == column.type for kind, column in zip(types, keys.columns, strict=True))


def find_repeats(
    keys: pa.RecordBatch, stream_order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Find the rows whose key occurs earlier in the stream, byte by byte. A key with a null repeats no other.

    `keys`: the columns of the key, n rows. `stream_order`: int64, n.
    Returns these rows in stream order, and for each of them the first row with its key. None if all keys differ.
    """
    uuid = next((column for column in keys.columns if _is_uuid(column)), None)
    if uuid is not None and _all_differ(_halves(uuid)[1]):  # the random half of UUIDs usually proves it
        return None
    words = [word for column in keys.columns for word in _words(column)]
    rows = None
    if any(column.null_count for column in keys.columns):
        rows = np.flatnonzero(np.logical_and.reduce([np.asarray(column.is_valid()) for column in keys.columns]))
        words = [word[rows] for word in words]
    mixed = mix(words)
    if _all_differ(mixed):
        return None
    order = np.argsort(mixed)
    ordered = mixed[order]
    same = ordered[1:] == ordered[:-1]
    candidates = order[np.append(same, False) | np.insert(same, 0, False)]
    if not len(candidates):
        return None
    return _repeats(
        [word[candidates] for word in words], stream_order, candidates if rows is None else rows[candidates]
    )


def _repeats(
    words: Sequence[NDArray[np.uint64]], stream_order: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The repeats among `rows`, which have these words."""
    order = np.lexsort((stream_order[rows], *words))
    same = np.zeros(len(order), bool)
    same[1:] = np.logical_and.reduce([word[order[1:]] == word[order[:-1]] for word in words])
    if not same.any():
        return None
    starts = np.flatnonzero(~same)
    first = rows[order[starts[np.cumsum(~same) - 1]]]
    later = rows[order[same]]
    by_order = np.argsort(stream_order[later])
    return later[by_order], first[same][by_order]


def _all_differ(numbers: NDArray[np.uint64]) -> bool:
    ordered = np.sort(numbers)
    return not (ordered[1:] == ordered[:-1]).any()


def mix(words: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One number per row: uint64, n. Rows with the same words have the same number; others rarely do."""
    mixed = words[0].copy()
    for word in words[1:]:
        mixed ^= mixed >> np.uint64(29)
        mixed *= _ODD
        mixed += word
    return mixed


def _words(column: pa.Array) -> list[NDArray[np.uint64]]:
    """The values of a column as numbers, each uint64, n: two for a UUID. Null is any number."""
    if _is_uuid(column):
        return list(_halves(column))
    if is_text(column):
        column = pc.dictionary_encode(column).indices
    elif pa.types.is_null(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    numbers = numbers_of(column)
    return [numbers.view(f"u{numbers.itemsize}").astype(np.uint64)]


def _is_uuid(column: pa.Array) -> bool:
    return bool(pa.types.is_fixed_size_binary(column.type))


def _halves(uuids: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Both halves of UUIDs, each uint64, n."""
    data = uuids.buffers()[1]
    if data is None or not len(uuids):
        return np.zeros(len(uuids), np.uint64), np.zeros(len(uuids), np.uint64)
    words = np.frombuffer(data, np.uint64)[2 * uuids.offset : 2 * (uuids.offset + len(uuids))]
    return words[::2], words[1::2]
