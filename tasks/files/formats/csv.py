"""Read CSV (RFC 4180) as columns of raw bytes. No value is converted and no record is dropped.

This does not use `pyarrow.csv`, which rejects records longer than its block and column names that are not UTF-8, and
returns the text of a record with too few or too many values only if it is UTF-8.
Input outside RFC 4180 is parsed like Python's `csv` does: a quote in the middle of a value belongs to the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.columns.entries import MALFORMED
from tasks.files.bad_source import bad_source
from tasks.files.formats.blocks import RowBlock, block_slices, copy_slices
from tasks.files.formats.csv_header import column_names
from tasks.files.formats.read_buffer import Fill, ReadBuffer
from tasks.files.formats.text_shape import check_encoding

_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_SCANNED_BYTES = 256 * 1024  # scanned at once: intermediate arrays stay in the CPU cache


@dataclass(frozen=True)
class _Separators:
    """n delimiters and line ends outside quotes.

    `at`: int64, n, their positions. `newline`: bool, n, True for a line end. `quotes`: int64, n, the number of quotes
    before each. `open`: whether the text ends inside quotes. `regular`: whether all quotes follow RFC 4180, except that
    text may follow a closing quote.
    """

    at: NDArray[np.int64]
    newline: NDArray[np.bool_]
    quotes: NDArray[np.int64]
    open: bool
    regular: bool


@dataclass(frozen=True)
class _Records:
    """r records with v values in total.

    `first`: int64, r, the index of the first value of each record. `width`: int64, r, its number of values.
    `starts`, `stops`: int64, v, the position of each value without its line end. `quotes`: int64, v, the number of
    quotes in it.
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
    """Read the column names of a CSV text, followed by `MALFORMED`, and its records.

    An empty value without quotes is null. Blank lines are skipped and not counted. Raises `Terminal` if lines end with
    `\\r` alone or if `column_names` rejects the header. While records are read, raises it for a quote that is never
    closed, for a record longer than `LONGEST_BYTES`, and if every record has one extra empty value at its end.
    """
    found = _records(fill, display_name, delimiter[0])
    first = next(found, None)
    if first is None:
        raise bad_source(
            display_name, "expected a header with the names of the columns, found an empty file", "fetch it again"
        )
    _check_line_ends(first, display_name)
    values = tuple(_values(first[:1], number, np.zeros(1, bool))[0].as_py() for number in range(int(first.width[0])))
    names = column_names(values, delimiter, display_name)
    return (*names, MALFORMED), _rows(chain((first[1:],), found), names, display_name)


def _check_line_ends(header: _Records, display_name: str) -> None:
    """Raise `Terminal` if lines end with `\\r` as on old Macs: the header would be the whole file."""
    begin, end = header.starts[header.first[0]], header.stops[header.first[0] + header.width[0] - 1]
    unquoted = header.data[begin:end].tobytes().split(b'"')[::2]
    if any(b"\r" in text for text in unquoted):
        raise bad_source(
            display_name,
            "expected records that end with \\n or \\r\\n, found \\r alone",
            "convert the line ends",
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
    """Raise `Terminal` if all records end with a delimiter and the header does not.

    All of them would be malformed, and some programs would read the first column as an index.
    """
    last = records.first + records.width - 1
    if (records.width == len(names) + 1).all() and (records.starts[last] == records.stops[last]).all():
        raise bad_source(
            display_name,
            f"expected {len(names)} values in each record, as many as names in the header, found an extra empty value"
            " at the end of every record",
            "remove the delimiter at the end of each line, or name that column",
        )


def _records(fill: Fill, display_name: str, delimiter: int) -> Iterator[_Records]:
    """Yield the records of a text in groups of one or more, without blank lines. A group is valid until the next."""
    count = 0  # records before the window; the header is record 0
    window = ReadBuffer(fill)
    more = True
    while more:
        more = window.more()
        if not count:
            check_encoding(window, display_name)
        found = _separators(window.data, delimiter)
        if not more:
            if found.open:
                raise bad_source(
                    f"{display_name}, record {count + np.count_nonzero(found.newline)}",
                    "expected a closing quote, found the end of the file",
                    "fix that record, or fetch the file again",
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
            window.check_length(f"{display_name}, record {count}", "check whether a quote is not closed")


def _ended(found: _Separators, data: NDArray[np.uint8]) -> _Separators:
    """Add a line end after the last record if it has none."""
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
    may_precede = np.zeros(
        256, bool
    )  # bytes before an opening quote; a quote there is the first half of a doubled quote
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
    """The positions and bytes of quotes, delimiters and line ends in the piece that begins at `start`."""
    piece = data[start : start + _SCANNED_BYTES]
    at = np.flatnonzero((piece == delimiter) | (piece == _NEWLINE) | (piece == _QUOTE))
    return at + start, piece[at]


def _irregular(data: NDArray[np.uint8], delimiter: int) -> _Separators:
    """The separators of a text with quotes in the middle of values: these need a scan sign by sign."""
    at: list[int] = []
    newline: list[bool] = []
    quotes: list[int] = []
    count = value = 0
    closed = -2
    inside = False
    for start in range(0, len(data), _SCANNED_BYTES):
        positions, kinds = _signs(data, start, delimiter)
        for position, kind in zip(positions.tolist(), kinds.tolist(), strict=True):
            if kind == _QUOTE:
                count += 1
                if inside:
                    inside, closed = False, position
                elif position in (value, closed + 1):
                    inside = True
            elif not inside:
                at.append(position)
                newline.append(kind == _NEWLINE)
                quotes.append(count)
                value = position + 1
    return _Separators(np.array(at, np.int64), np.array(newline, bool), np.array(quotes, np.int64), inside, False)


def _lay_out(data: NDArray[np.uint8], found: _Separators) -> _Records:
    """The records that end at a line end in `found`, except blank lines. `found` has at least one line end."""
    last = np.flatnonzero(found.newline)  # the index of the last value of each record
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
    """The values of column `number`: null if empty without quotes, and for `bad` records."""
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
    """Unquote a value like Python's `csv` does: text after the closing quote is appended."""
    found = []
    rest = value[1:]
    while True:
        before, _, rest = rest.partition(b'"')
        found.append(before)
        if not rest.startswith(b'"'):
            return b"".join(found) + rest
        found.append(b'"')
        rest = rest[1:]
