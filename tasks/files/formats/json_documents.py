"""Read JSON documents that are the elements of an array, or span several lines, as a column."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from tasks.files.bad_source import bad_source
from tasks.files.formats.blocks import RowBlock, block_slices, copy_slices
from tasks.files.formats.json_brackets import signs_of
from tasks.files.formats.read_buffer import ReadBuffer

_OPEN, _CLOSE, _COMMA = b"[],"


def read_array(window: ReadBuffer, more: bool, field: bytes, display_name: str) -> Iterator[RowBlock]:
    """Read the elements of a text that is one JSON array.

    Raises `Terminal` if an element is empty or longer than `LONGEST_BYTES`, if the array does not end, or if more text
    follows it.
    """
    window.drop(window.buffer.index(b"[") + 1)
    count = 0
    while True:
        signs = signs_of(window.data, 1)
        ends = np.flatnonzero(signs.depth == 0)
        end = int(signs.at[ends[0]]) if len(ends) else None
        inside = signs.at[(signs.depth == 1) & (signs.kind == _COMMA)]
        stops = inside if end is None else np.append(inside[inside < end], end)
        starts = np.append(0, stops[:-1] + 1)[: len(stops)]
        elements = _trimmed(window.data, starts, stops)
        if end is not None and window.buffer[end] != _CLOSE:
            raise _broken(display_name, count + len(stops), "the end of the array", "another bracket")
        empty = np.flatnonzero(pc.binary_length(elements).to_numpy() == 0)
        if len(empty) and not (end is not None and count + len(stops) == 1):
            raise _broken(display_name, count + int(empty[0]) + 1, "a document", "an empty element")
        if not len(empty):
            yield from _rows(elements, count, field)
        count += len(stops)
        window.drop(int(stops[-1]) + 1 if len(stops) else 0)
        if end is not None:
            break
        if not more:
            raise _broken(display_name, count + 1, "the end of the array", "the end of the file")
        window.check_length(f"{display_name}, document {count + 1}", "check whether a bracket is not closed")
        more = window.more()
    while True:
        if window.buffer[: window.size].strip():
            raise _broken(display_name, count, "the end of the file after the array", "more text")
        window.drop(window.size)
        if not window.more():
            return


def read_objects(window: ReadBuffer, more: bool, field: bytes, display_name: str) -> Iterator[RowBlock]:
    """Read the objects of a text in which each object begins on its own line.

    Raises `Terminal` if there is other text between two objects, if the last object does not end, or if an object is
    longer than `LONGEST_BYTES`.
    """
    count = 0
    while True:
        signs = signs_of(window.data)
        closed = np.flatnonzero(signs.depth <= 0)
        if (signs.depth[closed] < 0).any() or (signs.kind[closed] == _COMMA).any():
            raise _broken(display_name, count + 1, "only line ends between documents", "a comma or a bracket")
        stops = signs.at[closed] + 1
        starts = signs.at[np.append(0, closed[:-1] + 1)[: len(closed)]]
        _check_between(window.data, starts, stops, count, display_name)
        yield from _rows(_trimmed(window.data, starts, stops), count, field)
        count += len(stops)
        window.drop(int(stops[-1]) if len(stops) else 0)
        if not more:
            if window.buffer[: window.size].strip():
                raise _broken(display_name, count + 1, "the end of the document", "the end of the file")
            return
        window.check_length(f"{display_name}, document {count + 1}", "check whether a bracket is not closed")
        more = window.more()


def _check_between(
    data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64], count: int, display_name: str
) -> None:
    """Raise `Terminal` if anything but line ends precedes a document. `count`: the number of earlier documents."""
    if not len(starts):
        return
    between = copy_slices(data, np.append(0, stops[:-1]), starts)
    other = pc.binary_length(pc.ascii_trim_whitespace(between.view(pa.string()))).to_numpy() > 0
    alone = pc.match_substring(between, b"\n").to_numpy(zero_copy_only=False)
    alone[0] |= not count
    bad = np.flatnonzero(other | ~alone)
    if len(bad):
        found = "other text" if other[bad[0]] else "another document on the same line"
        raise _broken(display_name, count + int(bad[0]) + 1, "a line end before it", found)


def _trimmed(data: NDArray[np.uint8], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> pa.Array:
    return pc.ascii_trim_whitespace(copy_slices(data, starts, stops).view(pa.string())).view(pa.binary())


def _rows(documents: pa.Array, count: int, field: bytes) -> Iterator[RowBlock]:
    for part in block_slices(len(documents)):
        values = documents[part]
        yield RowBlock(np.arange(count + part.start + 1, count + part.stop + 1), (field,), (values,))


def _broken(display_name: str, document: int, expected: str, found: str) -> Terminal:
    return bad_source(
        f"{display_name}, document {document}",
        f"expected {expected}, found {found}",
        "correct the file, or fetch it again",
    )
