"""NDJSON as a column of its lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.files.block import BYTE_ORDER_MARK, Rows, check_length, cut_out, parts

_NEWLINE, _RETURN = b"\n\r"
_SCANNED_BYTES = 1024 * 1024  # at once: a long line is not held several times over
_IS_SPACE = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\v\f", np.uint8))


def read_lines(blocks: Iterable[bytes], field: bytes, shown: str) -> Iterator[Rows]:
    """The lines of a text that comes in blocks of any size, none empty, as they are but for their `\\n` or `\\r\\n`.

    Blank lines are left out, but count. Raises `Terminal` for a line longer than `LONGEST_BYTES`.
    """
    count = 0  # lines before `text`
    text = bytearray()
    at_start = True
    for block in chain(blocks, (b"",)):  # the empty one is the end: what is left is a line
        end = block.rfind(b"\n") + 1
        if block and not end:
            text += block
            check_length(len(text), f"{shown}, line {count + 1}", "put each JSON document on a line of its own")
            continue
        text += memoryview(block)[:end]
        if at_start:
            text, at_start = text.removeprefix(BYTE_ORDER_MARK), False
        starts, stops = _split(text)
        lines = len(starts)
        row = np.arange(count + 1, count + 1 + lines)
        keep = _not_blank(text, starts, stops)
        if keep is not None:
            starts, stops, row = starts[keep], stops[keep], row[keep]
        for part in parts(len(row)):
            yield Rows(row[part], (field,), (cut_out(text, starts[part], stops[part]),))
        count += lines
        text = bytearray(memoryview(block)[end:])


def _split(text: bytearray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each line starts, and where it stops, before its end. Only the last one may be without an end."""
    data = np.frombuffer(text, np.uint8)
    found = [
        np.flatnonzero(data[at : at + _SCANNED_BYTES] == _NEWLINE) + at for at in range(0, len(data), _SCANNED_BYTES)
    ]
    newlines = np.concatenate(found) if found else np.zeros(0, np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), newlines + 1])
    stops = np.append(newlines - ((newlines > starts[:-1]) & (data[newlines - 1] == _RETURN)), len(data))
    if starts[-1] == len(data):
        return starts[:-1], stops[:-1]
    return starts, stops


def _not_blank(text: bytearray, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Which lines are not empty and not of white space alone. None: all."""
    data = np.frombuffer(text, np.uint8)
    suspects = np.flatnonzero(_IS_SPACE[data[starts]])  # of an empty line this is its end
    if not len(suspects):
        return None
    empty = starts[suspects] == stops[suspects]
    blank = empty | np.asarray(pc.ascii_is_space(cut_out(text, starts[suspects], stops[suspects]).view(pa.string())))
    keep = np.ones(len(starts), bool)
    keep[suspects[blank]] = False
    return keep
