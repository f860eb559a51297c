"""Entries and columns for the tests of `tasks.columns`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.columns.decode import DecodedRows, Fault, TimeWindow, decode
from tasks.columns.entries import EntryColumns, RawEntry, page_to_columns
from tasks.columns.row_layout import RowLayout
from tests.support.events_layouts import ANY

ID = "0123abcd-4567-89ab-cdef-0123456789ab"
TIME = "2024-01-02T03:04:05Z"
TIME_US = 1_704_164_645_000_000
ANY_TIME = TimeWindow(-(10**18), 10**18)


def texts(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.string())


def entry(number: int, *fields: bytes) -> RawEntry:
    return b"%d-0" % number, list(fields)


def flat(**changes: str | bytes | None) -> list[bytes]:
    """The fields of a good flat entry. A change to None leaves a field out."""
    fields: dict[str, str | bytes | None] = {
        "event_id": ID,
        "event_type": "click",
        "user_id": "u",
        "time": TIME,
        "properties": "{}",
    }
    out = []
    for name, value in (fields | changes).items():
        if value is not None:
            out += [name.encode(), value if isinstance(value, bytes) else value.encode()]
    return out


def document(**changes: Any) -> bytes:
    """A good document in the JSON layout that needs no mapping."""
    fields = {"event_id": ID, "event_type": "click", "user_id": "u", "time": TIME, "properties": {"n": 1}}
    return json.dumps(fields | changes).encode()


def groups_of(entries: Sequence[Sequence[bytes]]) -> list[EntryColumns]:
    return page_to_columns([entry(i, *fields) for i, fields in enumerate(entries, 1)])


@dataclass(frozen=True)
class Events:
    """Decoded rows of `events`, column by column."""

    rows: DecodedRows
    entry: NDArray[np.int64]
    faults: list[Fault]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def time(self) -> NDArray[np.int64]:
        """Microseconds since 1970."""
        times = np.asarray(self.rows.rows.column("time").view(pa.int64()))
        assert times.tolist() == self.rows.times.tolist()
        return times

    @property
    def event_id(self) -> NDArray[np.uint8]:
        """uint8, (n, 16)."""
        ids = self.rows.rows.column("event_id").cast(pa.binary(16)).to_pylist()
        return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)

    @property
    def stream_order(self) -> NDArray[np.int64]:
        return self.rows.stream_order

    def __getattr__(self, column: str) -> pa.Array:
        """The bytes of a column of texts."""
        if column not in ("event_type", "user_id", "properties"):
            raise AttributeError(column)
        return self.rows.rows.column(column).cast(pa.binary())


def decoded(entries: Sequence[Sequence[bytes]], layout: RowLayout = ANY, window: TimeWindow = ANY_TIME) -> Events:
    """Decode entries that arrive as one page. Row numbers are positions in `entries`."""
    groups = groups_of(entries)
    rows = decode(groups, layout, window)
    came = np.array([int(i.partition(b"-")[0]) - 1 for group in groups for i in group.ids.to_pylist()], np.int64)
    faults = sorted((replace(fault, entry=int(came[fault.entry])) for fault in rows.faults), key=lambda f: f.entry)
    events = Events(rows, came[rows.entry], faults)
    places = sorted([*events.entry.tolist(), *(fault.entry for fault in events.faults)])
    assert places == list(range(len(entries))), "every entry is an event or a fault, once"
    assert all(0 < len(fault.reason) < 300 for fault in events.faults)
    return events


def decoded_json(documents: Sequence[bytes], layout: RowLayout = ANY, window: TimeWindow = ANY_TIME) -> Events:
    return decoded([[b"data", text] for text in documents], layout, window)
