"""The mapping of a stream, as spillway.toml spells it."""

from __future__ import annotations

from dataclasses import replace

from infra.mapping.column_source import ColumnSource, key_source
from infra.mapping.paths import InvalidKey, literal_key
from infra.mapping.stream_mapping import StreamMapping
from infra.mapping.toml_column import check_key, read_column
from infra.mapping.toml_names import is_events, read_table_name
from infra.mapping.toml_table import TomlTable

# In the first release the columns of `events` were keys of the stream's table.
_OF_EVENTS = ("time", "event_id", "event_type", "user_id", "properties")
OPTIONS = ("table", "layout", "field", "encoding", "each", "unknown", "null", "route", "columns")
_OF_DOCUMENTS = ("field", "encoding", "each")


def read_stream(table: TomlTable, name: str) -> StreamMapping:
    """The mapping in `[streams."name"]`. Every mistake is added to the faults of the file."""
    table.refuse_unknown((*OPTIONS, *_OF_EVENTS), f"or a column that belongs in [{table.place('columns')}]")
    target = read_table_name(table, "table")
    encodings = table.choices("encoding", ("gzip", "zstd", "base64", "msgpack"))
    if "msgpack" in encodings[:-1]:
        table.fault("encoding", "msgpack last: the document itself is in it")
    layout = table.choice("layout", ("json", "flat"))
    if layout == "flat":
        for key in (key for key in _OF_DOCUMENTS if key in table.values):
            table.faults.append(f'{table.place(key)}: expected layout = "json", found "flat", which has no document')
    each = table.text("each", "the path of an array in the document")
    if each is not None:
        check_key(table, "each", each)
    mapping = StreamMapping(
        name=name,
        # With a route, None means that other values have no table.
        table=None if is_events(target) and "route" not in table.values else target,
        columns=_columns(table, target),
        layout=layout,
        document_field=(table.text("field") or "data").encode(),
        encodings=encodings,
        each=each,
        unknown=table.choice("unknown", ("ignore", "refuse")) or "ignore",
        null=table.scalars("null"),
    )
    if mapping.unknown == "refuse" and any(source.whole == "unmapped" for source in mapping.columns.values()):
        table.conflict("unknown", ["a column with unmapped = true, which reads every key"])
    return _with_route(mapping, table)


def _columns(table: TomlTable, target: str | None) -> dict[str, ColumnSource]:
    columns = {}
    for name in (name for name in _OF_EVENTS if name in table.values):
        if not is_events(target):
            table.faults.append(
                f"{table.place(name)}: expected in [{table.place('columns')}], found directly in the stream's table,"
                " which is for the table events only"
            )
        columns[name] = _of_first_release(table, name)
    inner = table.table("columns")
    for name in inner.values:
        if name in columns:
            inner.conflict(name, [table.place(name)])
        columns[name] = read_column(inner, name)
    if is_events(target) and "route" not in table.values:
        columns.setdefault("properties", ColumnSource(whole="document"))
    return columns


def _of_first_release(table: TomlTable, name: str) -> ColumnSource:
    value = table.values[name]
    if name != "properties" or not isinstance(value, str):
        return read_column(table, name, first_release=True)
    try:  # a key, and never a template
        return key_source(literal_key(value))
    except InvalidKey as error:
        table.fault(name, str(error).removeprefix("expected "))
        return ColumnSource()


def _with_route(mapping: StreamMapping, table: TomlTable) -> StreamMapping:
    route = table.table("route")
    if not isinstance(table.values.get("route"), dict):
        return mapping
    route.refuse_unknown(("key", "tables"))
    key = route.text("key", "the key whose value chooses the table")
    if key is None and "key" not in route.values:
        route.faults.append(f"{route.place('key')}: missing")
    elif key is not None:
        check_key(route, "key", key)
    tables = route.table("tables")
    if not tables.values:
        route.fault("tables", "a table of values and the tables to choose for them")
    routes = {value: read_table_name(tables, value) or "" for value in tables.values}
    return replace(mapping, route_key=key, routes=routes)
