"""Decode entries into events: typed columns, and one fault with a reason for each entry that cannot become a row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.mapping.mapping import Mapping
from infra.mapping.sources import ColumnSource
from tasks.base.addresses import parse_id
from tasks.columns.entries import MALFORMED, EntryColumns
from tasks.columns.extract import ExtractedColumns, extract, split_by_layout
from tasks.columns.times import format_times, parse_times
from tasks.columns.uuids import parse_uuids

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
    refused: RefusedTimes | None = None

    @classmethod
    def around_now(cls, max_age_days: float, max_ahead_days: float) -> TimeWindow:
        """The window from `max_age_days` ago to `max_ahead_days` from now."""
        now = time.time_ns() // 1000
        return cls(now - round(max_age_days * _DAY_US), now + round(max_ahead_days * _DAY_US))


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
class Events:
    """n events as columns, and the faults of the entries that are not events.

    `time`: int64, microseconds since 1970. `event_id`: uint8, (n, 16). All other columns: binary, n. `properties` and
    `extra_columns` (in the order of `Mapping.extra_columns`) may have nulls.
    `entry`: int64, n, the index in the batch of each event's entry, counted group after group.
    `stream_order`: int64, n, ascending with the ids of the entries.
    """

    time: NDArray[np.int64]
    event_id: NDArray[np.uint8]
    event_type: pa.Array
    user_id: pa.Array
    properties: pa.Array
    entry: NDArray[np.int64]
    stream_order: NDArray[np.int64]
    faults: Sequence[Fault] = ()
    extra_columns: tuple[pa.Array, ...] = ()

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: NDArray[np.int64]) -> Events:
        """The events at the indices `rows`, in that order."""
        at = pa.array(rows)
        return Events(
            self.time[rows],
            self.event_id[rows],
            self.event_type.take(at),
            self.user_id.take(at),
            self.properties.take(at),
            self.entry[rows],
            self.stream_order[rows],
            self.faults,
            tuple(column.take(at) for column in self.extra_columns),
        )


def decode(groups: Sequence[EntryColumns], mapping: Mapping | None, window: TimeWindow) -> Events:
    """Decode the entries of a batch. Without a mapping, the fields of an entry select a built-in layout."""
    parts = []
    first = 0
    for group in groups:
        for layout, rows in split_by_layout(group, mapping):
            part = group if len(rows) == len(group) else group.take(rows)
            parts.append(_decode_group(part, layout, window, first + rows))
        first += len(group)
    if len(parts) == 1:
        return parts[0]
    entry = np.concatenate([part.entry for part in parts]) if parts else np.zeros(0, np.int64)
    return Events(
        np.concatenate([part.time for part in parts]) if parts else np.zeros(0, np.int64),
        np.concatenate([part.event_id for part in parts]) if parts else np.zeros((0, 16), np.uint8),
        _concat([part.event_type for part in parts]),
        _concat([part.user_id for part in parts]),
        _concat([part.properties for part in parts]),
        entry,
        _stream_ranks(groups)[entry],
        [fault for part in parts for fault in part.faults],
        tuple(_concat(list(column)) for column in zip(*(part.extra_columns for part in parts), strict=True)),
    )


def event_times(group: EntryColumns, mapping: Mapping) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The event time of each entry, int64, microseconds since 1970, and whether it is valid. An invalid time is 0."""
    key = None if mapping.layout == "json" else mapping.time.keys[0]  # the cheapest column to extract
    only = replace(mapping, event_id=mapping.time, event_type=mapping.time, user_id=mapping.time, properties=key)
    columns = extract(group, only)
    times, good = parse_times(_column("time", mapping.time, columns))
    good = good.copy()
    good[list(columns.faults)] = False
    return np.where(good, times, 0), good


def _stream_ranks(groups: Sequence[EntryColumns]) -> NDArray[np.int64]:
    """The rank by id of each entry of the batch, in batch order."""
    ids = [parse_id(entry_id) for group in groups for entry_id in group.ids.to_pylist()]
    ranks = np.empty(len(ids), np.int64)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def _concat(arrays: list[pa.Array]) -> pa.Array:
    return pa.concat_arrays(arrays) if arrays else pa.array([], pa.binary())


def _decode_group(group: EntryColumns, mapping: Mapping, window: TimeWindow, entries: NDArray[np.int64]) -> Events:
    """Decode one group. `entries`: int64, n, the index in the batch of each of its entries."""
    columns = extract(group, mapping)
    faults = columns.faults
    if group.keys is not None and MALFORMED in group.keys:
        records = group.column(MALFORMED)
        for row in map(int, np.flatnonzero(_has_only(group, MALFORMED))):
            quoted = records[row].as_py()[:_QUOTED].decode(errors="replace")
            faults[row] = (MALFORMED.decode(), f"expected as many values as the header has names, found {quoted!r}")
    texts = {"time": _column("time", mapping.time, columns)}
    times, time_good = parse_times(texts["time"])
    _canonicalise_time(mapping, columns, times)
    texts |= {name: _column(name, source, columns) for name, source in mapping.sources.items() if name != "time"}
    _add_faults(faults, "time", ~time_good, texts["time"], "expected ISO 8601 or a number of s, ms or µs since 1970")
    event_id, id_good = parse_uuids(texts["event_id"], mapping.uuid5)
    _add_faults(faults, "event_id", ~id_good, texts["event_id"], "expected a UUID")
    outside = time_good & ((times < window.earliest) | (times > window.latest))
    _add_faults(
        faults,
        "time",
        outside,
        texts["time"],
        "expected a time within SPILLWAY_MAX_AGE_DAYS and SPILLWAY_MAX_AHEAD_DAYS of now",
    )
    if window.refused is not None:
        for entry in map(int, np.flatnonzero(time_good & window.refused.contains(times))):
            faults.setdefault(entry, ("time", window.refused.reason))
    events = Events(
        times,
        event_id,
        texts["event_type"].cast(pa.binary()),
        texts["user_id"].cast(pa.binary()),
        columns.properties,
        entries,
        entries,  # equals the stream order within one group
        [Fault(int(entries[row]), *faults[row]) for row in sorted(faults)],
        tuple(group.column(name.encode()) for name in mapping.extra_columns),
    )
    if not faults:
        return events
    good = np.ones(len(group), bool)
    good[list(faults)] = False
    return events.take(np.flatnonzero(good))


def _canonicalise_time(mapping: Mapping, columns: ExtractedColumns, times: NDArray[np.int64]) -> None:
    """If another column also reads the key of the time, replace its text by the canonical one.

    The spelling of a time depends on the file format and its unit. Without this, the same rows would get different ids
    from CSV and from Parquet.
    """
    key = mapping.time.single_key
    if key is None or all(key not in source.keys for name, source in mapping.sources.items() if name != "time"):
        return
    absent = np.asarray(columns.texts[key].is_null())
    columns.texts[key] = format_times(pa.array(times, pa.int64(), mask=absent).view(pa.timestamp("us")))


def _has_only(group: EntryColumns, key: bytes) -> NDArray[np.bool_]:
    """Which entries have this field and no other. An entry that is redriven with corrected values has more fields."""
    found = np.asarray(group.column(key).is_valid())
    others = [array for name, array in zip(group.keys or (), group.values, strict=True) if name != key]
    for array in others:
        found = found & np.asarray(array.is_null())
    return found


def _column(name: str, source: ColumnSource, columns: ExtractedColumns) -> pa.Array:
    """The text of a column: string, n, no nulls. An entry without a value gets a fault and an empty text."""
    keys = source.pieces[1::2]
    if source.single_key is not None:
        texts = columns.texts[source.single_key]
        if source.fallback is not None and texts.null_count:
            texts = pc.coalesce(texts, columns.texts[source.fallback])
    else:
        parts = [columns.texts[p] if i % 2 else pa.scalar(p) for i, p in enumerate(source.pieces)]
        texts = pc.binary_join_element_wise(*parts, "")
    if not texts.null_count:
        return texts
    if source.default is None:
        for entry in np.flatnonzero(np.asarray(texts.is_null())):
            absent = [key for key in keys if not columns.texts[key][int(entry)].is_valid]
            columns.faults.setdefault(int(entry), (name, f"missing field {', '.join(absent)}"))
    return texts.fill_null(source.default or "")


def _add_faults(
    faults: dict[int, tuple[str, str]], name: str, bad: NDArray[np.bool_], texts: pa.Array, expected: str
) -> None:
    """Add a fault for each entry that `bad` marks. An entry keeps its first fault."""
    if not bad.any():
        return
    for entry in map(int, np.flatnonzero(bad)):
        found = texts[entry].as_py()
        quoted = found if len(found) <= _QUOTED else found[:_QUOTED] + "…"
        faults.setdefault(entry, (name, f"{expected}, found {quoted!r}"))
