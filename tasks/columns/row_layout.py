"""A mapping bound to a table: which columns rows fill, from which sources, and what identifies a row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.paths import WHOLE_DOCUMENT, field_name, parse_path
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping
from infra.tables.table import Table, TableColumn
from tasks.columns.types.column_type import ColumnType
from tasks.columns.types.registry import type_of

Shape = Literal["json", "flat"]
_MOMENTS = frozenset({"timestamptz", "timestamp", "date"})
_EVENTS_KEY = ("event_id", "time")
# The sources of the columns of `events` that a mapping does not name.
EVENTS_SOURCES = {
    "time": key_source("time", "timestamp"),
    "event_id": key_source("event_id"),
    "event_type": key_source("event_type"),
    "user_id": key_source("user_id"),
    "properties": key_source("properties"),
}


@dataclass(frozen=True)
class FilledColumn:
    """A column that rows bring a value for. `named`: the mapping names it; else it is read from the key of its name."""

    column: TableColumn
    source: ColumnSource
    type: ColumnType
    named: bool

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.column.name


@dataclass(frozen=True)
class RowLayout:
    """How entries become rows of `table`.

    `columns`: those that rows fill, in the order of the table. `key`: the columns that detect duplicates; empty if no
    unique key of the table has a source for each of its columns, so that the ledger alone prevents loading twice.
    `restored`: the columns of an archive that is restored; None for everything else.
    `routes`: the value of the route's key → the layout of its table. Without one, all rows go to `table`.
    `json_keys`: the fields of a flat entry whose values are JSON. In the object of all fields they stay as they are;
    all other fields are strings there.
    `also_read`: the key of the route, which is not unknown although no column reads it.
    `carries`: whether elements of `each` carry keys of their document below `$`, which is neither unknown nor unmapped,
    even if only the column of another table of the route reads one.
    """

    table: Table
    mapping: StreamMapping
    columns: tuple[FilledColumn, ...]
    key: tuple[str, ...]
    restored: tuple[str, ...] | None = None
    routes: Mapping[str, RowLayout] = field(default_factory=dict)
    json_keys: frozenset[bytes] = frozenset()
    also_read: tuple[str, ...] = ()
    carries: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of `columns`."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def time(self) -> FilledColumn | None:
        """The column of the table's time dimension, if rows fill it."""
        return next((column for column in self.columns if column.name == self.table.time), None)

    @cached_property
    def moment(self) -> FilledColumn | None:
        """The column with the time of a row: the time dimension, else the first one with a time."""
        return self.time or next((column for column in self.columns if column.column.base in _MOMENTS), None)

    @cached_property
    def time_first(self) -> tuple[FilledColumn, ...]:
        """The columns in the order in which faults are looked for: an entry keeps its first one."""
        return tuple(sorted(self.columns, key=lambda column: column is not self.moment))

    @cached_property
    def time_readers(self) -> frozenset[str]:
        """The keys that templates and columns other than `moment` read as text."""
        return frozenset(key for c in self.columns if c is not self.moment for key in c.source.keys)

    def with_columns(self, columns: tuple[FilledColumn, ...]) -> RowLayout:
        """The same layout, filling only some columns."""
        return replace(self, columns=columns)

    @cached_property
    def shared_keys(self) -> frozenset[str]:
        """With `each`, the keys of the whole document that columns read: `order` of `$.order.id`."""
        layouts = (self, *self.routes.values()) if self.mapping.each is not None else ()
        keys = {key for layout in layouts for column in layout.columns for key in column.source.keys}
        keys |= {self.mapping.route_key} if self.mapping.route_key else set()
        paths = (parse_path(key) for key in keys if key.startswith(WHOLE_DOCUMENT))
        return frozenset(str(path[1]) for path in paths) if layouts else frozenset()

    @cached_property
    def types(self) -> tuple[ColumnType, ...]:
        """The types of `columns`."""
        return tuple(column.type for column in self.columns)

    def shape_of(self, fields: Collection[bytes]) -> Shape:
        """Whether an entry with these fields holds a document, or values. The mapping decides, else the fields do."""
        if self.mapping.layout is not None:
            return self.mapping.layout
        return "json" if self.mapping.document_field in fields and self._marks.isdisjoint(fields) else "flat"

    @cached_property
    def _marks(self) -> frozenset[bytes]:
        """Fields that only an entry without a document has: those of the key, else all that are read."""
        if self.is_events:
            return frozenset([b"event_id"])
        marking = [c for c in self.columns if c.name in self.key] or self.columns
        keys = {field_name(key).encode() for column in marking for key in column.source.keys}
        return frozenset(keys - {self.mapping.document_field}) or frozenset(keys)

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables that rows may go to."""
        return tuple(dict.fromkeys((self.table, *(layout.table for layout in self.routes.values()))))

    def without_routes(self) -> RowLayout:
        """The layout of the entries whose value has no table of its own."""
        return replace(self, routes={}, mapping=replace(self.mapping, route_key=None, routes={}))

    def of_elements(self) -> RowLayout:
        """The layout of an element of `each` that is stored as an entry of its own."""
        changed = {value: layout.of_elements() for value, layout in self.routes.items()}
        mapping = replace(self.mapping, each=None, encodings=(), layout="json")
        return replace(self, mapping=mapping, routes=changed)

    def routed(self, routes: Mapping[str, RowLayout]) -> RowLayout:
        """The same layout with `routes`. What elements carry and what chooses the table is known to all of them."""
        whole = replace(self, routes=routes)
        whole = replace(whole, carries=bool(whole.shared_keys))
        known = {
            value: replace(layout, also_read=whole.also_read, carries=whole.carries) for value, layout in routes.items()
        }
        return replace(whole, routes=known)

    def with_json_keys(self, keys: frozenset[bytes]) -> RowLayout:
        """The same layout for rows with these `json_keys`."""
        routes = {value: layout.with_json_keys(keys) for value, layout in self.routes.items()}
        return replace(self, json_keys=keys, routes=routes)

    @property
    def is_events(self) -> bool:
        """Whether the rows go to the `events` table because no mapping names another one."""
        return self.mapping.table is None and not self.mapping.routes


def bind(mapping: StreamMapping | None, table: Table, only: Sequence[str] | None = None) -> RowLayout:
    """Bind a mapping to the table that its rows go to. Never fails: what does not fit is for the preflight to report.

    `only`: fill exactly these columns, each from the key of its name, as the files of an archive do.
    """
    mapping = mapping or BUILT_IN
    columns = []
    for column in table.columns:
        if column.generated and not (column.numbered and only is not None):
            continue
        source = key_source(column.name) if only is not None else _source(mapping, column.name)
        if source is None or (only is not None and column.name not in only):
            continue
        columns.append(FilledColumn(column, source, type_of(column), column.name in mapping.columns))
    filled = {column.name for column in columns}
    key = next((key for key in table.keys if filled.issuperset(key)), ())
    if not key and mapping.table is None and not mapping.routes and filled.issuperset(_EVENTS_KEY):
        key = _EVENTS_KEY  # also if somebody dropped its index: `reconcile` must still find rows that exist twice
    also_read = (mapping.route_key,) if mapping.route_key is not None else ()
    layout = RowLayout(table, mapping, tuple(columns), key, None if only is None else tuple(only), also_read=also_read)
    return replace(layout, carries=bool(layout.shared_keys))


def _source(mapping: StreamMapping, name: str) -> ColumnSource | None:
    """The source of a column. Columns that users added to `events` are filled only if the mapping names them."""
    if name in mapping.columns:
        source = mapping.columns[name]
        return replace(source, unit="ms") if source.whole == "entry_time" else source
    return EVENTS_SOURCES.get(name) if mapping.table is None and not mapping.routes else key_source(name)
