"""Rows of a batch whose key occurs earlier in the stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns.encode_rows import encode_rows
from tasks.columns.types.column_type import ColumnType


def find_repeats(
    keys: pa.RecordBatch, types: Sequence[ColumnType], stream_order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """PLACEHOLDER."""
    codes = np.asarray(encode_rows(keys, types).dictionary_encode().indices)
    order = np.lexsort((stream_order, codes))
    same = np.zeros(len(order), bool)
    same[1:] = codes[order[1:]] == codes[order[:-1]]
    if not same.any():
        return None
    starts = np.flatnonzero(~same)
    first = order[starts[np.cumsum(~same) - 1]]
    later = order[same]
    by_order = np.argsort(stream_order[later])
    return later[by_order], first[same][by_order]
