"""The `events` table without a server, and layouts for it."""

from __future__ import annotations

from dataclasses import replace

from infra.mapping.column_source import ColumnSource
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import RowLayout, bind

EVENTS = Table(
    "public",
    "events",
    TableKind.HYPERTABLE,
    (
        TableColumn("time", "timestamp with time zone", "timestamptz", nullable=False),
        TableColumn("event_id", "uuid", "uuid", nullable=False),
        TableColumn("event_type", "text", "text", nullable=False),
        TableColumn("user_id", "text", "text", nullable=False),
        TableColumn("properties", "jsonb", "jsonb"),
    ),
    keys=(("event_id", "time"),),
    time="time",
)
WHOLE_DOCUMENT = ColumnSource(whole="document")
ANY = bind(BUILT_IN, EVENTS)
FLAT = bind(replace(BUILT_IN, layout="flat"), EVENTS)
JSON = bind(replace(BUILT_IN, layout="json"), EVENTS)


def with_sources(layout: RowLayout, **sources: ColumnSource) -> RowLayout:
    """The layout with other sources for some columns, as if a mapping named them."""
    mapping: StreamMapping = replace(layout.mapping, columns={**layout.mapping.columns, **sources})
    return bind(mapping, layout.table)
