"""What is in a range of a stream: how many entries, of which days."""

from __future__ import annotations

import numpy as np

from infra.connections import Clients
from infra.mapping import Mapping
from tasks.columns.decode import event_times
from tasks.columns.extract import layouts
from tasks.files.reader import DAY_MS
from tasks.read import Reader
from tasks.step import step

_DAY_US = DAY_MS * 1000


def days_of(reader: Reader, mapping: Mapping | None) -> dict[int, int]:
    """Start of a day in ms since 1970 → entries; 0 has those without a time."""
    days: dict[int, int] = {}
    for groups in reader.pages():
        for group in groups:
            for layout, rows in layouts(group, mapping):
                times, good = event_times(group if len(rows) == len(group) else group.take(rows), layout)
                of_entry = np.where(good & (times >= 0), times // _DAY_US * DAY_MS, 0)
                for day, number in zip(*np.unique(of_entry, return_counts=True), strict=True):
                    days[int(day)] = days.get(int(day), 0) + int(number)
    return days


@step("look at the stream")
def look_at_stream(clients: Clients, reader: Reader, mapping: Mapping | None) -> dict[int, int]:
    """`days_of`, as a task."""
    with clients.explained(f"look at {reader.stream}"):
        return days_of(reader, mapping)
