"""Checks whether the rows of a mapping fit into their table as it is now. Users alter tables, also between two runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import psycopg
from psycopg import sql

from infra.errors.exceptions import Terminal
from infra.mapping.column_source import ColumnSource
from infra.mapping.toml_stream import OPTIONS
from infra.tables.table import Table, TableColumn, TableKind
from tasks.columns.row_layout import RowLayout

_TIMES = ("timestamptz", "timestamp", "date")
_DOCUMENTS = ("jsonb", "json", "text", "varchar")
_TEXTS = ("text", "varchar", "bpchar", "citext")
# By column of `events`: the types that it may have, and the one to propose if it has another.
_EVENTS_TYPES = {
    "time": (("timestamptz",), "timestamptz"),
    "event_id": (("uuid",), "uuid"),
    "event_type": (_TEXTS, "text"),
    "user_id": (_TEXTS, "text"),
    "properties": (("jsonb",), "jsonb"),
}
_WITH_TIMESCALEDB = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'timescaledb')"


def check_tables(connection: psycopg.Connection, layouts: Iterable[RowLayout]) -> None:
    """Raise `Terminal` with all problems of the layouts' tables, each with its fix. Raises `psycopg.Error`."""
    row = connection.execute(_WITH_TIMESCALEDB).fetchone()
    with_timescaledb = row is not None and bool(row[0])
    found: dict[str, list[str]] = {}
    for layout in layouts:
        for one in _each(layout):
            problems = found.setdefault(one.table.regclass, [])
            problems += [text for text in table_problems(one, with_timescaledb, layout.tables) if text not in problems]
    if lines := [f"{table}: {'; '.join(problems)}" for table, problems in found.items() if problems]:
        raise Terminal(f"preflight: {'; '.join(lines)}; nothing was read or written; fix it, then retry")


def table_problems(layout: RowLayout, with_timescaledb: bool = True, tables: Sequence[Table] = ()) -> list[str]:
    """Why the rows do not fit into the table, each reason with its fix.

    `with_timescaledb`: the database has TimescaleDB, so that `events` must be a hypertable or a partitioned table.
    `tables`: all tables that the mapping chooses from; a column that it names must be in one of them.
    """
    problems = list(_events_problems(layout, with_timescaledb)) if layout.is_events else []
    return [*problems, *_mapped_problems(layout, tables), *_required_problems(layout)]


def identity_notes(layouts: Iterable[RowLayout]) -> list[str]:
    """What the reader of a report should know about duplicates in the tables, each once."""
    return list(dict.fromkeys(note for layout in layouts for one in _each(layout) for note in _identity_notes(one)))


def _each(layout: RowLayout) -> list[RowLayout]:
    """The layout of each table of a mapping."""
    others = [layout.without_routes()] if layout.mapping.table is not None or not layout.routes else []
    return [*others, *layout.routes.values()]


def _identity_notes(layout: RowLayout) -> list[str]:
    table = layout.table
    if not layout.key:
        unfilled = [f"({', '.join(key)})" for key in table.keys]
        reason = (
            f"its unique keys {' and '.join(unfilled)} have columns that are not filled"
            if unfilled
            else "it has no unique key that ON CONFLICT can use"
        )
        return [
            f"{table.regclass}: {reason}: each entry is loaded once, but two entries with equal content become two rows"
        ]
    nullable = [name for name in layout.key if table.by_name[name].nullable]
    return [f"{table.regclass}: rows with a null in {_listed(nullable)} are never duplicates"] if nullable else []


def _events_problems(layout: RowLayout, with_timescaledb: bool) -> Iterator[str]:
    """What `events` must have, whoever altered it."""
    table = layout.table
    name = sql.Literal(table.regclass).as_string(None)
    if table.kind is TableKind.PLAIN and with_timescaledb:
        yield f"it is not a hypertable: SELECT create_hypertable({name}, 'time', migrate_data => true)"
    elif table.kind is TableKind.HYPERTABLE and table.time != "time":
        yield f"expected chunks by time, found chunks by {table.time}: create the table again, and copy its rows"
    for column, (types, wanted) in _EVENTS_TYPES.items():
        found = table.by_name.get(column)
        if found is None:
            yield f"the column {column} is missing: ALTER TABLE {table.regclass} ADD COLUMN {column} {wanted}"
            continue
        fits = found.base in types or (types is _TEXTS and found.kind == "e")
        if not fits or (column == "time" and found.constrained):
            yield (
                f"the column {column} is {found.type}, expected {wanted}: ALTER TABLE {table.regclass} ALTER COLUMN"
                f" {column} TYPE {wanted}"
            )
        if found.generated:
            yield f"the server generates the column {column}, so no value can be inserted: make it an ordinary column"
    has_key = any(set(key) == {"event_id", "time"} for key in table.keys)
    if not has_key and {"event_id", "time"} <= table.by_name.keys():
        yield (
            "no unique index on (event_id, time) that is valid, not partial and not deferrable: CREATE UNIQUE INDEX ON"
            f" {table.regclass} (event_id, time)"
        )


def _mapped_problems(layout: RowLayout, tables: Sequence[Table]) -> Iterator[str]:
    """The columns that the mapping names and rows cannot fill."""
    table = layout.table
    for name in layout.mapping.columns:
        where = f'spillway.toml: streams."{layout.mapping.name}" names the column "{name}"'
        if (column := table.by_name.get(name)) is None:
            if any(name in other.by_name for other in tables):
                continue
            near = get_close_matches(name, table.by_name, 1, 0.6)
            meant = f'did you mean "{near[0]}"?' if near else f"it has {_listed(table.by_name)}"
            if not near and name in OPTIONS:
                meant = f'an option of the stream goes above [streams."{layout.mapping.name}".columns]'
            yield f"{where}, which the table does not have; {meant}"
        elif column.generated:
            yield f"{where}, which the server generates, so no value can be inserted: remove it from the mapping"
        else:
            for option, wanted in _pointless_options(layout.mapping.columns[name], column):
                yield f"{where} with {option}, which needs the type {wanted}, found {column.type}: remove {option}"


def _pointless_options(source: ColumnSource, column: TableColumn) -> Iterator[tuple[str, str]]:
    """The options that have no effect on a column, and the types that they are for."""
    if column.base not in _TIMES:
        of_times = {"unit": source.unit, "format": source.format, "timezone": source.timezone}
        yield from ((option, ", ".join(_TIMES)) for option, value in of_times.items() if value is not None)
    if column.base != "uuid":
        of_uuids = {"uuid5": source.namespace is not None, "ulid": source.ulid}
        yield from ((option, "uuid") for option, named in of_uuids.items() if named)
    if source.whole in ("document", "unmapped") and column.base not in _DOCUMENTS:
        yield source.whole, ", ".join(_DOCUMENTS)


def _required_problems(layout: RowLayout) -> Iterator[str]:
    """The columns that every row needs and no row brings."""
    table = layout.table
    known = _EVENTS_TYPES if layout.is_events else {}
    for column in table.columns:
        if column.required and column.name not in layout.names and column.name not in known:
            quoted = sql.Identifier(column.name).as_string(None)
            fix = f"ALTER TABLE {table.regclass} ALTER COLUMN {quoted} SET DEFAULT …"
            yield f"the column {quoted} is NOT NULL and has no default: {fix}" + (
                ", or name its source in spillway.toml" if layout.restored is None else ""
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
