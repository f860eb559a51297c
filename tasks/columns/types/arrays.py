"""Arrays of any type, from JSON arrays or from array literals."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.column_source import ColumnSource
from tasks.columns.row_pieces import RowPieces
from tasks.columns.types.array_literals import Nested, format_literal, parse_literal
from tasks.columns.types.arrow_values import as_binary, as_string
from tasks.columns.types.column_type import ColumnType, Parsed
from tasks.columns.types.json_arrays import parse_flat_arrays, parse_json_array, parse_json_string
from tasks.columns.types.text_types import TextLane
from tasks.columns.wire import big_endian, byte_rows, offsets_of

_HEAD = 20  # bytes before the elements: dimensions, whether there are nulls, type, length, lower bound
_EMPTY_HEAD = 12  # an empty array has no dimension


@dataclass(frozen=True)
class Array(ColumnType):
    """An array. Understood if each array has one dimension and `element` understands every element.

    `oid`: of the element's type, None if it is unknown; then arrays travel as text. `judged`: `element` judges every
    text itself, so arrays of any dimension contain what it has understood. `of_json`: the elements are JSON.
    """

    element: ColumnType = field(default_factory=lambda: TextLane(pa.null(), ""))
    oid: int | None = None
    judged: bool = False
    of_json: bool = False

    def parse(self, texts: pa.Array, source: ColumnSource) -> Parsed:
        """The arrays. `bad` marks an array with an element that `element` refuses, if it judges elements itself."""
        if texts.null_count == len(texts):
            return Parsed(pa.nulls(len(texts), self.arrow))
        if pa.types.is_list(texts.type):
            return self._parse_lists(texts, source)
        documents = _documents(texts)
        return self._parse_flat(documents, texts, source) or self._parse_any(documents, texts, source)

    def _parse_lists(self, lists: pa.Array, source: ColumnSource) -> Parsed:
        """Lists of strings or integers."""
        offsets, flat = _elements(lists)
        parsed = self.element.parse(flat, source)
        if parsed.values.type != self.element.arrow or self.oid is None:
            documents = [None if one is None else msgspec.json.encode(one) for one in lists.to_pylist()]
            return self._parse_any(documents, lists, source)
        counts = np.diff(offsets).astype(np.int64)
        bad = None if parsed.bad is None else _any_of(parsed.bad, counts)
        return Parsed(_lists(parsed.values, counts, lists), bad, parsed.expected)

    def _parse_flat(self, documents: list[bytes | None], texts: pa.Array, source: ColumnSource) -> Parsed | None:
        """JSON arrays of one dimension of strings and numbers. None if there is anything else."""
        found = None if self.of_json or self.oid is None else parse_flat_arrays(documents)
        if found is None:
            return None
        elements, counts = found[0], np.array(found[1], np.int64)
        parsed = self.element.parse(_column(elements), source)
        if parsed.values.type != self.element.arrow:
            return None
        bad = None if parsed.bad is None else _any_of(parsed.bad, counts)
        return Parsed(_lists(parsed.values, counts, texts), bad, parsed.expected)

    def _parse_any(self, documents: list[bytes | None], texts: pa.Array, source: ColumnSource) -> Parsed:
        broken = _not_utf8(documents)
        arrays = [self._nested(value) for value in documents]
        elements = [list(_leaves(array)) if isinstance(array, list) else [] for array in arrays]
        counts = np.array([len(found) for found in elements], np.int64)
        flat = _column([leaf for found in elements for leaf in found])
        parsed = self.element.parse(flat, source)
        bad = None
        if self.judged:
            unread = np.array([isinstance(array, str) for array in arrays], bool)
            bad = unread | _any_of(parsed.bad, counts)
        if broken is not None:
            bad = broken if bad is None else bad | broken
        understood = parsed.values.type == self.element.arrow
        if understood and self.oid is not None and all(_is_flat(array) for array in arrays):
            values = _lists(parsed.values, counts, texts)
        else:
            if self.judged:
                leaves = iter(as_string(self.element.to_text(parsed.values)).to_pylist())
                arrays = [_replaced(array, leaves) if isinstance(array, list) else array for array in arrays]
            literals = [format_literal(array) if isinstance(array, list) else array for array in arrays]
            values = pa.array(literals, pa.string())
        return Parsed(values, bad if bad is not None and bad.any() else None, parsed.expected)

    def _nested(self, value: bytes | None) -> Nested | str | None:
        """The elements of an array; its text if it cannot be read here."""
        if value is None:
            return None
        start = value.lstrip()[:1]
        text = parse_json_string(value) if start == b'"' else None
        if text is None:
            found = parse_json_array(value, self.of_json) if start == b"[" else None
            if found is not None:
                return found
            text = value.decode()
        found = parse_literal(text)
        return text if found is None else found

    def encode(self, values: pa.Array) -> pa.Array:
        """Head and elements; see array_recv. Each element with its length."""
        n = len(values)
        offsets, flat = _elements(values)
        pieces = RowPieces(len(flat))
        pieces.column(self.element.encode(flat), self.element.prefix, flat)
        elements = pieces.join()
        counts = np.diff(offsets)
        head = np.empty((n, _HEAD), np.uint8)
        head[:, :_EMPTY_HEAD] = np.frombuffer(struct.pack("!iiI", 1, 0, self.oid or 0), np.uint8)
        nulls = np.append(0, np.cumsum(np.asarray(flat.is_null()), dtype=np.int64))
        head[:, 7] = nulls[offsets[1:]] > nulls[offsets[:-1]]
        head[:, 12:16] = big_endian(counts, ">i4")
        head[:, 16:] = np.frombuffer(struct.pack("!i", 1), np.uint8)
        empty = struct.pack("!iiI", 0, 0, self.oid or 0)
        heads = pc.if_else(pa.array(counts > 0), byte_rows(head), pa.scalar(empty, pa.binary()))
        starts = np.ascontiguousarray(offsets_of(elements)[offsets])
        bodies = pa.Array.from_buffers(
            pa.binary(), n, [None, pa.py_buffer(starts), pa.py_buffer(elements.buffers()[2] or b"")]
        )
        return pc.binary_join_element_wise(heads, bodies, pa.scalar(b"", pa.binary()))

    def to_text(self, values: pa.Array) -> pa.Array:
        """Array literals."""
        offsets, flat = _elements(values)
        leaves = as_string(self.element.to_text(flat)).to_pylist()
        texts = [
            format_literal(leaves[start:stop]) if valid else None
            for start, stop, valid in zip(offsets[:-1], offsets[1:], values.is_valid().to_pylist(), strict=True)
        ]
        return pa.array(texts, pa.string())


def _elements(values: pa.Array) -> tuple[NDArray[np.int32], pa.Array]:
    """The n + 1 offsets of n lists into their elements, and the elements."""
    offsets = np.asarray(values.offsets)
    return offsets - offsets[:1], values.values[int(offsets[0]) : int(offsets[-1])]


def _documents(values: pa.Array) -> list[bytes | None]:
    found: list[bytes | None] = as_binary(values).to_pylist()
    return found


def _not_utf8(values: list[bytes | None]) -> NDArray[np.bool_] | None:
    """Replace what is not UTF-8 by null. Returns which values these are: bool, n; None if there are none."""
    broken = [at for at, value in enumerate(values) if value is not None and not _is_utf8(value)]
    if not broken:
        return None
    marks = np.zeros(len(values), bool)
    for at in broken:
        values[at], marks[at] = None, True
    return marks


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _column(leaves: list[str | int | None]) -> pa.Array:
    """The leaves as int64 if all are integers, else as string."""
    for kind in (pa.string(), pa.int64()):
        try:
            return pa.array(leaves, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            continue
    return pa.array([leaf if leaf is None else str(leaf) for leaf in leaves], pa.string())


def _is_flat(array: Nested | str | None) -> bool:
    return array is None or (isinstance(array, list) and not any(isinstance(element, list) for element in array))


def _leaves(array: Nested) -> Iterator[str | int | None]:
    for element in array:
        if isinstance(element, list):
            yield from _leaves(element)
        else:
            yield element


def _replaced(array: Nested, leaves: Iterator[str | int | None]) -> Nested:
    """The same array with other leaves."""
    return [_replaced(element, leaves) if isinstance(element, list) else next(leaves) for element in array]


def _any_of(marks: NDArray[np.bool_] | None, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether any of the elements of each array is marked: bool, n."""
    if marks is None:
        return np.zeros(len(counts), bool)
    ends = np.cumsum(counts)
    sums = np.append(0, np.cumsum(marks))
    found: NDArray[np.bool_] = sums[ends] > sums[ends - counts]
    return found


def _lists(elements: pa.Array, counts: NDArray[np.int64], texts: pa.Array) -> pa.Array:
    """The lists, n, of these elements, with the nulls of `texts`."""
    offsets = pa.array(np.append(0, np.cumsum(counts)).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, elements, mask=texts.is_null() if texts.null_count else None)
