"""CSV (RFC 4180) as columns of its values: the bytes that are there, nothing guessed, nothing dropped.

Not by `pyarrow.csv`: it takes no record longer than its block; of a record with too few or too many values it gives the
text only where that is UTF-8; and names that are not UTF-8 it does not take at all.
What RFC 4180 does not know is taken as Python's `csv` does: a quote in the midst of a value is a part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal
from tasks.columns.entries import MALFORMED
from tasks.files.formats.blocks import RowBlock, block_slices, copy_slices
from tasks.files.formats.csv_header import column_names
from tasks.files.formats.read_buffer import Fill, ReadBuffer
from tasks.files.formats.text_shape import check_encoding

_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_SCANNED_BYTES = 256 * 1024  # at once: what is found on the way stays in the cache


@dataclass(frozen=True)
class _Separators:
    """The delimiters and line ends of a text that are not in quotes.

    `at`: int64, where. `newline`: bool, whether it is a line end. `quotes`: int64, how many quotes stand before it.
    `open`: whether the text ends in quotes. `regular`: whether all quotes are as RFC 4180 has them, but for what may
    follow a closing one.
    """

    at: NDArray[np.int64]
    newline: NDArray[np.bool_]
    quotes: NDArray[np.int64]
    open: bool
    regular: bool


@dataclass(frozen=True)
class _Records:
    """Records of a text. `first`: int64, r: the number of each one's first value. `width`: int64, r: how many it has.

    `starts`, `stops`, `quotes`: int64, of each value: where it is, without line end, and how many quotes are in it.
    """

    data: NDArray[np.uint8]
    first: NDArray[np.int64]
    width: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    quotes: NDArray[np.int64]
    regular: bool

    def __getitem__(self, part: slice) -> _Records:
        return _Records(
            self.data, self.first[part], self.width[part], self.starts, self.stops, self.quotes, self.regular
        )


def read_records(
    fill: Fill, display_name: str, delimiter: bytes = b","
) -> tuple[tuple[bytes, ...], Iterator[RowBlock]]:
    """The names in the header and `MALFORMED`, and the records of a text after it.

    A value is null where nothing stands, not even quotes. Blank lines are no records and do not count. Raises
    `Terminal` where lines end with `\\r` alone, for what `column_names` refuses, and (while the records are read) for
    quotes that are never closed, a record longer than `LONGEST_BYTES`, and records that all have one empty value too
    many at their end.
    """
    found = _records(fill, display_name, delimiter[0])
    first = next(found, None)
    if first is None:
        raise Terminal(
            f"backfill: {display_name}: expected a header with the names of the columns, found an empty file"
        )
    _check_line_ends(first, display_name)
    values = tuple(_values(first[:1], number, np.zeros(1, bool))[0].as_py() for number in range(int(first.width[0])))
    names = column_names(values, delimiter, display_name)
    return (*names, MALFORMED), _rows(chain((first[1:],), found), names, display_name)


def _check_line_ends(header: _Records, display_name: str) -> None:
    """Raise `Terminal` where lines end as on old Macs: the header would be all of the file, and no record left."""
    begin, end = header.starts[header.first[0]], header.stops[header.first[0] + header.width[0] - 1]
    unquoted = header.data[begin:end].tobytes().split(b'"')[::2]
    if any(b"\r" in text for text in unquoted):
        raise Terminal(
            f"backfill: {display_name}: expected records that end with \\n or \\r\\n, found \\r alone; convert the"
            " line ends"
        )


def _rows(found: Iterable[_Records], names: tuple[bytes, ...], display_name: str) -> Iterator[RowBlock]:
    count = 0
    for records in found:
        for part in block_slices(len(records.first)):
            some = records[part]
            n = len(some.first)
            bad = some.width != len(names)
            if not count and bad.all():
                _check_ends(some, names, display_name)
            values = [_values(some, number, bad) for number in range(len(names))]
            if bad.any():
                last = some.first + some.width - 1
                values.append(copy_slices(some.data, some.starts[some.first], some.stops[last], ~bad))
            else:
                values.append(pa.nulls(n, pa.binary()))
            yield RowBlock(np.arange(count + 1, count + 1 + n), (*names, MALFORMED), tuple(values))
            count += n


def _check_ends(records: _Records, names: tuple[bytes, ...], display_name: str) -> None:
    """Raise `Terminal` if all records end with a delimiter and the header does not: all would be malformed, and some
    programs would take the first column for an index."""
    last = records.first + records.width - 1
    if (records.width == len(names) + 1).all() and (records.starts[last] == records.stops[last]).all():
        raise Terminal(
            f"backfill: {display_name}: expected {len(names)} values in each record, as the header has names, found"
            " one more, empty, at the end of all of them; nothing was loaded: remove the delimiter at the end of each"
            " line, or name that column"
        )


def _records(fill: Fill, display_name: str, delimiter: int) -> Iterator[_Records]:
    """The records of a text that are not blank lines, some at a time, never none; to be used before the next ones."""
    count = 0  # records before the window, and so the number of the first one in it: the header is none
    window = ReadBuffer(fill)
    more = True
    while more:
        more = window.more()
        if not count:
            check_encoding(window, display_name)
        found = _separators(window.data, delimiter)
        if not more:
            if found.open:
                raise Terminal(
                    f"backfill: {display_name}, record {count + np.count_nonzero(found.newline)}: expected a value"
                    " that begins with a quote to end with one, found none up to the end of the file; mend that"
                    " record, or fetch the file again"
                )
            found = _ended(found, window.data)
        end = int(found.at[found.newline][-1]) + 1 if found.newline.any() else 0
        if end:
            records = _lay_out(window.data, found)
            if len(records.first):
                yield records
                count += len(records.first)
            window.drop(min(end, window.size))
        elif more:
            window.check_length(f"{display_name}, record {count}", "is a quote not closed?")


def _ended(found: _Separators, data: NDArray[np.uint8]) -> _Separators:
    """With a line end behind the last record, if that has none."""
    if not len(data) or (len(found.at) and found.newline[-1] and found.at[-1] == len(data) - 1):
        return found
    return _Separators(
        np.append(found.at, len(data)),
        np.append(found.newline, True),
        np.append(found.quotes, np.count_nonzero(data == _QUOTE)),
        found.open,
        found.regular,
    )


def _separators(data: NDArray[np.uint8], delimiter: int) -> _Separators:
    may_precede = np.zeros(256, bool)  # an opening quote; another one is the second of two that stand for one
    may_precede[[_QUOTE, _NEWLINE, delimiter]] = True
    found: list[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]] = []
    count = 0
    for start in range(0, len(data), _SCANNED_BYTES):
        at, kinds = _signs(data, start, delimiter)
        is_quote = kinds == _QUOTE
        quotes = count + np.cumsum(is_quote)
        odd = (quotes & 1).astype(bool)
        opening = at[is_quote & odd]
        if not (may_precede[data[opening - 1]] | (opening == 0)).all():
            return _irregular(data, delimiter)
        outside = ~(is_quote | odd)
        found.append((at[outside], kinds[outside] == _NEWLINE, quotes[outside]))
        count = int(quotes[-1]) if len(quotes) else count
    if not found:
        return _Separators(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, np.int64), False, True)
    ats, newlines, counts = zip(*found, strict=True)
    return _Separators(np.concatenate(ats), np.concatenate(newlines), np.concatenate(counts), count % 2 == 1, True)


def _signs(data: NDArray[np.uint8], start: int, delimiter: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where from `start` on quotes, delimiters and line ends are, and which."""
    piece = data[start : start + _SCANNED_BYTES]
    at = np.flatnonzero((piece == delimiter) | (piece == _NEWLINE) | (piece == _QUOTE))
    return at + start, piece[at]


def _irregular(data: NDArray[np.uint8], delimiter: int) -> _Separators:
    """The same of a text with quotes in the midst of a value: which are meant can only be told one by one."""
    at: list[int] = []
    newline: list[bool] = []
    quotes: list[int] = []
    count = value = 0
    closed = -2
    inside = False
    for start in range(0, len(data), _SCANNED_BYTES):
        places, kinds = _signs(data, start, delimiter)
        for place, kind in zip(places.tolist(), kinds.tolist(), strict=True):
            if kind == _QUOTE:
                count += 1
                if inside:
                    inside, closed = False, place
                elif place in (value, closed + 1):
                    inside = True
            elif not inside:
                at.append(place)
                newline.append(kind == _NEWLINE)
                quotes.append(count)
                value = place + 1
    return _Separators(np.array(at, np.int64), np.array(newline, bool), np.array(quotes, np.int64), inside, False)


def _lay_out(data: NDArray[np.uint8], found: _Separators) -> _Records:
    """The records that end in `found`, but for blank lines. There is one at least, or a blank line."""
    last = np.flatnonzero(found.newline)  # of each record, the number of its last value
    count = int(last[-1]) + 1
    stops = found.at[:count].copy()
    starts = np.concatenate([np.zeros(1, np.int64), stops[:-1] + 1])
    stops[last] -= (stops[last] > starts[last]) & (data[stops[last] - 1] == _RETURN)
    first = np.concatenate([np.zeros(1, np.int64), last[:-1] + 1])
    width = last - first + 1
    keep = (width > 1) | (starts[first] < stops[first])
    quotes = np.diff(found.quotes[:count], prepend=0)
    return _Records(data, first[keep], width[keep], starts, stops, quotes, found.regular)


def _values(records: _Records, number: int, bad: NDArray[np.bool_]) -> pa.Array:
    """One value of each record, null where nothing stands and for those that are `bad`."""
    index = records.first + np.where(bad, 0, number)
    starts, stops, quotes = records.starts[index], records.stops[index], records.quotes[index]
    absent = bad | (starts == stops)
    if not quotes.any():
        return copy_slices(records.data, starts, stops, absent)
    data = records.data
    quoted = ~absent & (quotes > 0) & (data[np.minimum(starts, len(data) - 1)] == _QUOTE)
    whole = quoted & (quotes > 1) & (data[stops - 1] == _QUOTE) & ((quotes == 2) | records.regular)
    array = copy_slices(records.data, starts + whole, stops - whole, absent)
    doubled = whole & (quotes > 2)
    if doubled.any():
        single = pc.replace_substring(array.filter(pa.array(doubled)), b'""', b'"')
        array = pc.replace_with_mask(array, pa.array(doubled), single)
    strange = quoted & ~whole
    if strange.any():
        texts = [_unquoted(value) for value in array.filter(pa.array(strange)).to_pylist()]
        array = pc.replace_with_mask(array, pa.array(strange), pa.array(texts, pa.binary()))
    return array


def _unquoted(value: bytes) -> bytes:
    """A value that begins with a quote, as Python's `csv` takes it: what follows the closing quote is added to it."""
    found = []
    rest = value[1:]
    while True:
        before, _, rest = rest.partition(b'"')
        found.append(before)
        if not rest.startswith(b'"'):
            return b"".join(found) + rest
        found.append(b'"')
        rest = rest[1:]
