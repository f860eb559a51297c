"""What is in a range of a stream: how many entries are left, of which days, and which days the ledger has of it."""

from __future__ import annotations

import numpy as np
import psycopg

from infra.connections.clients import Clients
from infra.mapping import Mapping
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.decode import event_times
from tasks.columns.extract import split_by_layout
from tasks.files.file_reader import DAY_MS
from tasks.streams.reader import Reader

_DAY_US = DAY_MS * 1000
_LOADED = fill_in("""
    SELECT DISTINCT extract(epoch FROM day)::bigint * 1000
      FROM spillway.ledger AS l,
           generate_series(date_trunc('day', l.min_time, 'UTC'), l.max_time, interval '1 day') AS day
     WHERE l.stream = {stream_id} AND l.ids && numrange(%(start)s, %(stop)s)""")


def days_of(reader: Reader, mapping: Mapping | None) -> dict[int, int]:
    """Start of a day in ms since 1970 → entries; 0 has those without a time."""
    days: dict[int, int] = {}
    for groups in reader.pages():
        for group in groups:
            for layout, rows in split_by_layout(group, mapping):
                times, good = event_times(group if len(rows) == len(group) else group.take(rows), layout)
                of_entry = np.where(good & (times >= 0), times // _DAY_US * DAY_MS, 0)
                for day, number in zip(*np.unique(of_entry, return_counts=True), strict=True):
                    days[int(day)] = days.get(int(day), 0) + int(number)
    return days


def days_loaded(connection: psycopg.Connection, stream: str, ids: IdRange) -> set[int]:
    """The days (starts in ms since 1970) of what the ledger has of a range of a stream: from the first to the last of
    each of its rows. Raises `psycopg.Error`."""
    values = {"stream": stream, "start": ids.start, "stop": ids.stop}
    return {day for (day,) in connection.execute(_LOADED, values)}


@step("look at the stream")
def look_at_stream(
    clients: Clients, reader: Reader, mapping: Mapping | None, loaded: IdRange | None
) -> tuple[dict[int, int], set[int]]:
    """`days_of`, and where a range is given, its `days_loaded`, as a task."""
    with clients.translate_errors(f"look at {reader.stream}"), clients.postgres() as connection:
        return days_of(reader, mapping), days_loaded(connection, reader.stream, loaded) if loaded else set()
