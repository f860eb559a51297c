"""Check timestamps of Parquet's old type INT96, which Spark, Impala and Hive write. Its range exceeds all others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.files.bad_source import bad_source
from tasks.files.find import SourceFile
from tasks.files.stored_bytes import translate_content_errors

# The default unit is nanoseconds, which wrap outside 1677 to 2262: the year 2611 would be stored as 2026.
UNIT = "us"
_WIDER = "s"  # covers all of INT96; microseconds wrap outside the years -290308 to 294247
_BATCH_ROWS = 4096


def check_int96(file: SourceFile, parquet: Any, reopen: Callable[[str], Any]) -> None:
    """Raise `Terminal` if an INT96 timestamp is outside the range of microseconds.

    `reopen`: opens the file with INT96 in the given unit. Only INT96 columns are read, once in each unit.
    """
    columns = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    paths = [column.path for column in columns if column.physical_type == "INT96"]
    if not paths:
        return
    with translate_content_errors(file, "Parquet"), reopen(UNIT) as narrow, reopen(_WIDER) as wide:
        row = 1
        pairs = zip(*(one.iter_batches(_BATCH_ROWS, columns=paths) for one in (narrow, wide)), strict=True)
        for micros, seconds in pairs:
            for number, column in enumerate(micros.columns):
                if not _agree(column, seconds.column(number)):
                    raise bad_source(
                        file.display_name,
                        "expected timestamps in the years -290308 to 294247, found one outside them in column"
                        f" {micros.schema.names[number]!r} (INT96), rows {row} to {row + len(micros) - 1}",
                        "write the file without such timestamps",
                    )
            row += len(micros)


def _agree(micros: pa.Array, seconds: pa.Array) -> bool:
    """Whether both units give the same times. A time that wrapped differs from its value in seconds."""
    return all(
        np.array_equal(np.asarray(fine) // 1_000_000, np.asarray(coarse))
        for fine, coarse in zip(_numbers(micros), _numbers(seconds), strict=True)
    )


def _numbers(array: pa.Array) -> Iterator[pa.Array]:
    """All timestamps in a column, including nested ones, as integers in its unit."""
    if pa.types.is_map(array.type):
        yield from _numbers(array.keys)
        yield from _numbers(array.items)
    elif pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _numbers(part)
    elif pa.types.is_nested(array.type):
        yield from _numbers(array.flatten())
    elif pa.types.is_timestamp(array.type):
        yield array.view(pa.int64()).fill_null(0)
