"""The days of a stream's range: of its remaining entries, and of those that the ledger already has."""

from __future__ import annotations

import numpy as np
import psycopg

from infra.connections.clients import Clients
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.columns.decode import event_times
from tasks.columns.extract import split_by_shape
from tasks.columns.row_layout import RowLayout
from tasks.files.file_reader import DAY_MS
from tasks.streams.reader import Reader

_DAY_US = DAY_MS * 1000
_LOADED = fill_in("""
    SELECT DISTINCT extract(epoch FROM day)::bigint * 1000
      FROM spillway.ledger AS l,
           generate_series(date_trunc('day', l.min_time, 'UTC'), l.max_time, interval '1 day') AS day
     WHERE l.stream = {stream_id} AND l.ids && numrange(%(start)s, %(stop)s)""")


def days_of(reader: Reader, layout: RowLayout) -> dict[int, int]:
    """The number of entries by the start of their day in ms since 1970; entries without a time are under 0."""
    days: dict[int, int] = {}
    for groups in reader.pages():
        for group in groups:
            for shape, rows in split_by_shape(group, layout):
                times, good = event_times(group if len(rows) == len(group) else group.take(rows), layout, shape)
                of_entry = np.where(good & (times >= 0), times // _DAY_US * DAY_MS, 0)
                for day, number in zip(*np.unique(of_entry, return_counts=True), strict=True):
                    days[int(day)] = days.get(int(day), 0) + int(number)
    return days


def days_loaded(connection: psycopg.Connection, stream: str, ids: IdRange) -> set[int]:
    """The days (starts in ms since 1970) of the ledger ranges that overlap `ids`, first to last day of each.

    Raises `psycopg.Error`.
    """
    values = {"stream": stream, "start": ids.start, "stop": ids.stop}
    return {day for (day,) in connection.execute(_LOADED, values)}


@step("read the days of the stream")
def look_at_stream(
    clients: Clients, reader: Reader, layout: RowLayout, loaded: IdRange | None
) -> tuple[dict[int, int], set[int]]:
    """`days_of` the reader, and `days_loaded` of the range `loaded` if it is given. Raises `SpillwayError`."""
    with clients.translate_errors(f"read {reader.stream}"), clients.postgres() as connection:
        return days_of(reader, layout), days_loaded(connection, reader.stream, loaded) if loaded else set()
