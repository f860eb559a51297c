"""Some rows of a file as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MOST_ROWS = 65_536


@dataclass(frozen=True)
class RowBlock:
    """n rows of a file, as fields, as a stream's entries have them.

    `row`: int64, n: the number of each, from 1 on and growing: of NDJSON the line (blank lines count but are left out),
    of an array or of pretty-printed JSON the document, of CSV the record after the header, of Parquet the row.
    `keys`: k field names. `values`: k arrays, binary, n each; null where the row has no such field.
    All `RowBlock` of a file have the same keys. Of CSV the last one is `records.MALFORMED`.
    """

    row: NDArray[np.int64]
    keys: tuple[bytes, ...]
    values: tuple[pa.Array, ...]

    def __len__(self) -> int:
        return len(self.row)


def block_slices(n: int) -> Iterator[slice]:
    """0 to n in parts of so many rows as a block may have."""
    for start in range(0, n, MOST_ROWS):
        yield slice(start, min(start + MOST_ROWS, n))


def copy_slices(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    absent: NDArray[np.bool_] | None = None,
) -> pa.Array:
    """Pieces of some bytes, which must lie one after the other, copied to a binary array; null where `absent`."""
    n = len(starts)
    offsets = np.empty(2 * n + 1, np.int32)
    offsets[:-1:2], offsets[1::2] = starts, stops
    offsets[-1] = stops[-1] if n else 0
    # Every other cell is what lies between two pieces.
    cells = pa.Array.from_buffers(pa.binary(), 2 * n, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    return cells.take(pa.array(np.arange(0, 2 * n, 2), mask=absent))
