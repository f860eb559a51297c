"""Read JSON documents as a column: lines of NDJSON, elements of an array, or pretty-printed objects."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.files.formats.blocks import RowBlock, block_slices, copy_slices
from tasks.files.formats.json_documents import read_array, read_objects
from tasks.files.formats.read_buffer import Fill, ReadBuffer
from tasks.files.formats.text_shape import shape_of

_NEWLINE, _RETURN = b"\n\r"
_SCANNED_BYTES = 256 * 1024  # scanned at once: intermediate arrays stay in the CPU cache
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", np.uint8))


def read_lines(fill: Fill, field: bytes, display_name: str) -> Iterator[RowBlock]:
    """Read the documents of a text as blocks with the single key `field`. `shape_of` detects how they are separated.

    Blank lines are skipped but counted. Raises `Terminal` for a line longer than `LONGEST_BYTES`, and for the errors of
    `shape_of`, `read_array` and `read_objects`.
    """
    window = ReadBuffer(fill)
    shape, more = shape_of(window, display_name)
    read = {"lines": _lines, "array": read_array, "objects": read_objects}[shape]
    yield from read(window, more, field, display_name)


def _lines(window: ReadBuffer, more: bool, field: bytes, display_name: str) -> Iterator[RowBlock]:
    count = 0  # lines before the window
    while window.size or more:
        end = window.buffer.rfind(b"\n", 0, window.size) + 1 if more else window.size
        if more and not end:
            window.check_length(f"{display_name}, line {count + 1}", "put each JSON document on a line of its own")
            more = window.more()
            continue
        data = window.data[:end]
        starts, stops = _split(data)
        lines = len(starts)
        row = np.arange(count + 1, count + 1 + lines)
        keep = _not_blank(data, starts, stops)
        if keep is not None:
            starts, stops, row = starts[keep], stops[keep], row[keep]
        for part in block_slices(len(row)):
            yield RowBlock(row[part], (field,), (copy_slices(data, starts[part], stops[part]),))
        count += lines
        window.drop(end)
        more = more and window.more()


def _split(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The start and stop of each line, without its line end. Only the last line may lack a line end."""
    found = [
        np.flatnonzero(data[at : at + _SCANNED_BYTES] == _NEWLINE) + at for at in range(0, len(data), _SCANNED_BYTES)
    ]
    newlines = np.concatenate(found) if found else np.zeros(0, np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])
    stops = np.append(newlines - ((newlines > starts[:-1]) & (data[newlines - 1] == _RETURN)), len(data))
    if starts[-1] == len(data):
        return starts[:-1], stops[:-1]
    return starts, stops


def _not_blank(
    data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> NDArray[np.bool_] | None:
    """A mask of the lines that contain more than white space. None means all lines."""
    suspects = np.flatnonzero(_IS_SPACE[data[starts]])  # an empty line has its line end here
    if not len(suspects):
        return None
    empty = starts[suspects] == stops[suspects]
    blank = empty | np.asarray(
        pc.ascii_is_space(copy_slices(data, starts[suspects], stops[suspects]).view(pa.string()))
    )
    keep = np.ones(len(starts), bool)
    keep[suspects[blank]] = False
    return keep
