"""Decode entries into rows: typed columns, and one fault with a reason for each entry that cannot become a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.base.addresses import parse_id
from tasks.columns.compose import absent_keys, column_values
from tasks.columns.entries import MALFORMED, EntryColumns
from tasks.columns.extract import extract, split_by_shape
from tasks.columns.extracted_values import ExtractedValues
from tasks.columns.parts import take_apart
from tasks.columns.row_layout import FilledColumn, RowLayout, Shape
from tasks.columns.times import format_times
from tasks.columns.types.arrow_values import as_string
from tasks.columns.types.column_type import Parsed

_DAY_US = 86_400_000_000
_QUOTED = 60  # characters of a bad value that a reason quotes


@dataclass(frozen=True)
class RefusedTimes:
    """Times that are refused although they are in the window. `contains` finds them; `reason` becomes the fault's."""

    contains: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
    reason: str


@dataclass(frozen=True)
class TimeWindow:
    """The plausible event times, in microseconds since 1970, both ends included. Other events go to quarantine.

    Every implausible time would create a chunk, and thousands of chunks slow down planning.
    """

    earliest: int
    latest: int
    refused: Mapping[str, RefusedTimes] = field(default_factory=dict)  # by table, as `Table.regclass`

    @classmethod
    def around_now(cls, max_age_days: float, max_ahead_days: float) -> TimeWindow:
        """The window from `max_age_days` ago to `max_ahead_days` from now."""
        now = time.time_ns() // 1000
        return cls(now - round(max_age_days * _DAY_US), now + round(max_ahead_days * _DAY_US))


EVERY_TIME = TimeWindow(-(2**62), 2**62)  # for entries that an earlier window may have accepted


@dataclass(frozen=True)
class Fault:
    """An entry that cannot become a row: its index in the batch, the faulty field, and the reason.

    `conflict`: the table already has a row with the same key and other content.
    """

    entry: int
    field: str
    reason: str
    conflict: bool = False


@dataclass(frozen=True)
class DecodedRows:
    """n rows, and the faults of the entries that give none.

    `rows`: the columns of the layout, in its order. A column has the Arrow type of its `ColumnType` if all its values
    are understood, else string: then the server parses it.
    `entry`: int64, n, the index in the batch of each row's entry, counted group after group.
    `stream_order`: int64, n, ascending with the ids of the entries.
    `times`: int64, n, microseconds since 1970, of the time dimension; empty if the layout fills none.
    """

    rows: pa.RecordBatch
    entry: NDArray[np.int64]
    stream_order: NDArray[np.int64]
    times: NDArray[np.int64]
    faults: Sequence[Fault] = ()

    def __len__(self) -> int:
        return len(self.entry)

    def take(self, rows: NDArray[np.int64]) -> DecodedRows:
        """The rows at the indices `rows`, in that order."""
        at = pa.array(rows)
        columns = [column.take(at) for column in self.rows.columns]
        return DecodedRows(
            pa.RecordBatch.from_arrays(columns, names=self.rows.schema.names),
            self.entry[rows],
            self.stream_order[rows],
            self.times[rows] if len(self.times) else self.times,
            self.faults,
        )


def decode(groups: Sequence[EntryColumns], layout: RowLayout, window: TimeWindow) -> DecodedRows:
    """Decode the entries of a batch."""
    parts = []
    first = 0
    for group in groups:
        for shape, rows in split_by_shape(group, layout):
            part = group if len(rows) == len(group) else group.take(rows)
            parts.append(_decode_group(part, layout, shape, window, first + rows))
        first += len(group)
    if len(parts) == 1:
        return parts[0]
    entry = np.concatenate([np.zeros(0, np.int64), *(part.entry for part in parts)])
    columns = [
        _concat([part.rows.column(number) for part in parts], column) for number, column in enumerate(layout.columns)
    ]
    return DecodedRows(
        pa.RecordBatch.from_arrays(columns, names=list(layout.names)),
        entry,
        _stream_ranks(groups)[entry],
        np.concatenate([np.zeros(0, np.int64), *(part.times for part in parts)]),
        [fault for part in parts for fault in part.faults],
    )


def event_times(group: EntryColumns, layout: RowLayout, shape: Shape) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The time of each entry, int64, microseconds since 1970, and whether it is valid. An invalid time is 0.

    An entry that becomes several rows has no time of its own.
    """
    column = layout.time
    if column is None or layout.mapping.each is not None:
        return np.zeros(len(group), np.int64), np.zeros(len(group), bool)
    (group,) = take_apart([group], layout).groups
    values = extract(group, layout.with_columns((column,)), shape)
    parsed, good = _parse_time(column, column_values(column, values, group, layout))
    good[list(values.faults)] = False
    return np.where(good, parsed, 0), good


def _stream_ranks(groups: Sequence[EntryColumns]) -> NDArray[np.int64]:
    """The rank by id of each entry of the batch, in batch order."""
    ids = [parse_id(entry_id) for group in groups for entry_id in group.ids.to_pylist()]
    ranks = np.empty(len(ids), np.int64)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def _concat(arrays: list[pa.Array], column: FilledColumn) -> pa.Array:
    """One array of all parts. If the server must parse one of them, all become text."""
    if not arrays:
        return pa.array([], column.type.arrow)
    if len({array.type for array in arrays}) > 1:
        texts = [a if a.type != column.type.arrow else column.type.to_text(a) for a in arrays]
        arrays = [text.cast(pa.binary()).cast(pa.string(), safe=False) for text in texts]
    return pa.concat_arrays(arrays)


def _decode_group(
    group: EntryColumns, layout: RowLayout, shape: Shape, window: TimeWindow, entries: NDArray[np.int64]
) -> DecodedRows:
    """Decode one group. `entries`: int64, n, the index in the batch of each of its entries."""
    extracted = extract(group, layout, shape)
    faults = extracted.faults
    if group.keys is not None and MALFORMED in group.keys:
        records = group.column(MALFORMED)
        for row in map(int, np.flatnonzero(_has_only(group, MALFORMED))):
            quoted = records[row].as_py()[:_QUOTED].decode(errors="replace")
            faults[row] = (MALFORMED.decode(), f"expected as many values as the header has names, found {quoted!r}")
    if layout.mapping.refuses_unknown and extracted.unmapped is not None:
        _refuse_unknown(extracted.unmapped, faults)
    times = np.zeros(0, np.int64)
    parsed: dict[str, Parsed] = {}
    texts: dict[str, pa.Array] = {}
    for column in layout.time_first:
        texts[column.name] = values = column_values(column, extracted, group, layout)
        if column.column.required and values.null_count:
            _add_missing(faults, column, values, extracted)
        if column is layout.moment:
            parsed[column.name] = column.type.parse(values, column.source)
            moments = _micros(parsed[column.name])
            _canonicalise_time(layout, extracted, moments)
            times = moments if column is layout.time else times
    for column in layout.time_first:
        found = parsed.get(column.name) or column.type.parse(texts[column.name], column.source)
        if found.bad is not None and layout.restored is not None and column is not layout.time:
            found = Parsed(as_string(texts[column.name]))  # the server wrote these texts, such as a date BC
        parsed[column.name] = found
        if found.bad is not None:
            expected = f"expected {found.expected or column.type.expected}"
            _add_faults(faults, column.name, found.bad, texts[column.name], expected)
    if layout.time is not None:
        _check_window(layout, times, parsed[layout.time.name], texts[layout.time.name], window, faults)
    rows = pa.RecordBatch.from_arrays([parsed[name].values for name in layout.names], names=list(layout.names))
    decoded = DecodedRows(
        rows,
        entries,
        entries,  # equals the stream order within one group
        times,
        [Fault(int(entries[row]), *faults[row]) for row in sorted(faults)],
    )
    if not faults:
        return decoded
    good = np.ones(len(group), bool)
    good[list(faults)] = False
    return decoded.take(np.flatnonzero(good))


def _parse_time(column: FilledColumn, texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    found = column.type.parse(texts, column.source)
    good = np.asarray(texts.is_valid()).copy()
    if found.bad is not None:
        good &= ~found.bad
    return _micros(found), good


def _micros(found: Parsed) -> NDArray[np.int64]:
    """Times of any type as microseconds since 1970, int64, n. A null and a bad value are 0."""
    values = found.values
    if pa.types.is_date32(values.type):
        return np.asarray(values.cast(pa.int32()).fill_null(0)).astype(np.int64) * _DAY_US
    return np.asarray(values.view(pa.int64()).fill_null(0))


def _check_window(
    layout: RowLayout,
    times: NDArray[np.int64],
    parsed: Parsed,
    texts: pa.Array,
    window: TimeWindow,
    faults: dict[int, tuple[str, str]],
) -> None:
    assert layout.time is not None  # the caller has its times
    name = layout.time.name
    good = np.asarray(texts.is_valid())
    if parsed.bad is not None:
        good = good & ~parsed.bad
    outside = good & ((times < window.earliest) | (times > window.latest))
    expected = "expected a time within SPILLWAY_MAX_AGE_DAYS and SPILLWAY_MAX_AHEAD_DAYS of now"
    _add_faults(faults, name, outside, texts, expected)
    refused = window.refused.get(layout.table.regclass) if window.refused else None
    if refused is not None:
        for entry in map(int, np.flatnonzero(good & refused.contains(times))):
            faults.setdefault(entry, (name, refused.reason))


def _canonicalise_time(layout: RowLayout, extracted: ExtractedValues, times: NDArray[np.int64]) -> None:
    """If a text of another column also reads the key of the time, replace it there by the canonical one.

    The spelling of a time depends on the file format and its unit. Without this, the same rows would get different ids
    from CSV and from Parquet.
    """
    if layout.moment is None or (key := layout.moment.source.single_key) is None or key not in layout.time_readers:
        return
    absent = np.asarray(extracted.texts[key].is_null())
    extracted.texts[key] = format_times(pa.array(times, pa.int64(), mask=absent).view(pa.timestamp("us")))


def _has_only(group: EntryColumns, key: bytes) -> NDArray[np.bool_]:
    """Which entries have this field and no other. An entry that is redriven with corrected values has more fields."""
    found = np.asarray(group.column(key).is_valid())
    others = [array for name, array in zip(group.keys or (), group.values, strict=True) if name != key]
    for array in others:
        found = found & np.asarray(array.is_null())
    return found


def _refuse_unknown(unmapped: pa.Array, faults: dict[int, tuple[str, str]]) -> None:
    for entry, document in enumerate(unmapped.to_pylist()):
        if document not in (None, b"{}"):
            keys = document[:_QUOTED].decode(errors="replace")
            faults.setdefault(entry, ("", f'expected no key that no column reads (unknown = "refuse"), found {keys}'))


def _add_missing(
    faults: dict[int, tuple[str, str]], column: FilledColumn, values: pa.Array, extracted: ExtractedValues
) -> None:
    for entry in map(int, np.flatnonzero(np.asarray(values.is_null()))):
        absent = ", ".join(absent_keys(column, extracted, entry))
        faults.setdefault(entry, (column.name, f"missing field {absent}"))


def _add_faults(
    faults: dict[int, tuple[str, str]], name: str, bad: NDArray[np.bool_], texts: pa.Array, expected: str
) -> None:
    """Add a fault for each entry that `bad` marks. An entry keeps its first fault."""
    if not bad.any():
        return
    for entry in map(int, np.flatnonzero(bad)):
        found = texts[entry].as_py()
        found = msgspec.json.encode(found) if isinstance(found, list) else found
        text = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
        quoted = text if len(text) <= _QUOTED else text[:_QUOTED] + "…"
        faults.setdefault(entry, (name, f"{expected}, found {quoted!r}"))
