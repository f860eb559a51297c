"""Blocks of rows, stored as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOST_ROWS = 65_536


@dataclass(frozen=True)
class RowBlock:
    """n rows of a file with the fields of a stream entry.

    `row`: int64, n, the increasing row numbers, from 1. They count lines in NDJSON (blank lines are counted but have no
    row), documents in a JSON array or pretty-printed JSON, records after the header in CSV, and rows in Parquet.
    `keys`: k field names. `values`: k binary arrays of length n; null if the row lacks the field.
    `json_keys`: the keys whose values are JSON: numbers, booleans, lists, structs and maps of Parquet. All other values
    are texts, also those of CSV, which has no types.
    All blocks of a file have the same keys. The last key of a CSV file is `entries.MALFORMED`.
    """

    row: NDArray[np.int64]
    keys: tuple[bytes, ...]
    values: tuple[pa.Array, ...]
    json_keys: frozenset[bytes] = frozenset()

    def __len__(self) -> int:
        return len(self.row)


def block_slices(n: int) -> Iterator[slice]:
    """Split 0 to n into slices of at most `MOST_ROWS`."""
    for start in range(0, n, MOST_ROWS):
        yield slice(start, min(start + MOST_ROWS, n))


def copy_slices(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    absent: NDArray[np.bool_] | None = None,
) -> pa.Array:
    """Copy slices of `data` to a binary array. Slices are in order and do not overlap; `absent` marks nulls."""
    n = len(starts)
    offsets = np.empty(2 * n + 1, np.int32)
    offsets[:-1:2], offsets[1::2] = starts, stops
    offsets[-1] = stops[-1] if n else 0
    # Every other cell is the gap between two slices.
    cells = pa.Array.from_buffers(pa.binary(), 2 * n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return cells.take(pa.array(np.arange(0, 2 * n, 2), mask=absent))
