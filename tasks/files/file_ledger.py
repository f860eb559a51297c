"""Record which files are loaded, which are loaded in part, and which have changed since."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psycopg

from infra.errors.exceptions import Terminal
from infra.mapping.stream_mapping import BUILT_IN, StreamMapping, StreamMappings
from infra.tables.read_table import EVENTS, default_table_name, quoted_name, read_table
from tasks.base.addresses import IdRange
from tasks.columns.column_forms import STANDARD_COLUMNS
from tasks.columns.row_layout import RowLayout, bind
from tasks.files.file_reader import count_rows
from tasks.files.reading import is_document, is_of_texts, json_keys_of, times_of
from tasks.files.scan import ScannedFile, fit_layout
from tasks.ledger.names import FILE, is_file_ledger, original_name
from tasks.ledger.register_stream import check_table_of_stream, register_stream, table_of_stream
from tasks.ledger.undrained import undrained
from tasks.preflight.layouts import read_layout
from tasks.table.row_columns import existing_columns

_NAME_SHOWN = len(FILE) + 12
_STANDARD = tuple(column.name for column in STANDARD_COLUMNS)

# The ledgers of this content or this path, except those of a repeated load (--again).
_FIND = """
    SELECT s.name, f.reading, f.rows, f.path, s.read
      FROM spillway.files AS f JOIN spillway.streams AS s ON s.id = f.stream
     WHERE (s.name = %(name)s OR f.path = %(path)s) AND s.name NOT LIKE '%%@again-%%'
     ORDER BY s.name = %(name)s DESC, s.id DESC"""
_DESCRIBE = """
    INSERT INTO spillway.files (stream, path, mapping, reading, rows, own, skipped)
    SELECT id, %(path)s, %(mapping)s, %(reading)s, %(rows)s, %(own)s,
           CASE WHEN %(stop)s::numeric IS NOT NULL THEN numrange(%(start)s, %(stop)s) END
      FROM spillway.streams WHERE name = %(name)s
    ON CONFLICT (stream) DO UPDATE SET path = EXCLUDED.path, mapping = EXCLUDED.mapping, reading = EXCLUDED.reading,
                                       own = EXCLUDED.own, skipped = EXCLUDED.skipped"""
# Rows that were skipped before are loaded now. The file is not settled until all of them are.
_UNSETTLE = """
    UPDATE spillway.streams SET settled_id = NULL, settled_entries_added = NULL, settled_at = NULL
     WHERE name = %s AND settled_id IS NOT NULL"""
_MAPPING = """
    SELECT f.mapping, f.reading, f.own
      FROM spillway.files AS f JOIN spillway.streams AS s ON s.id = f.stream WHERE s.name = %s"""
_PATH = """
    SELECT f.path FROM spillway.files AS f JOIN spillway.streams AS s ON s.id = f.stream WHERE s.name = %s"""
# As for a stream: everything added up to the settled tail was read.
_SETTLE = """
    UPDATE spillway.streams AS s
       SET settled_id = %(last)s, settled_entries_added = %(added)s, settled_at = now()
     WHERE s.name = %(name)s AND coalesce(s.settled_entries_added, -1) < %(added)s"""


@dataclass(frozen=True)
class Remaining:
    """The part of a file that is not loaded: the address ranges missing in the ledger, and their number of rows.

    `as_texts`: the other part was read by the first release, so this part must be scanned again, `as_texts`.
    """

    gaps: tuple[IdRange, ...]
    rows: int
    as_texts: bool = False


def remaining_of(connection: psycopg.Connection, scanned: ScannedFile) -> Remaining:
    """The part of a file that is not loaded yet: all of it if the file is new.

    Raises `Terminal` if the path had other content before, or if the content was loaded with other times or into
    another table.
    """
    found = connection.execute(_FIND, {"name": scanned.ledger_name, "path": scanned.file.display_name}).fetchall()
    if found and found[0][0] != scanned.ledger_name:
        name, _, rows, path, read = found[0]
        if name == f"{FILE}{scanned.sha256}":
            columns = ", ".join(column for column, _ in scanned.file.path_columns)
            raise Terminal(
                f"{path} was loaded without the columns of its path ({columns}) by an earlier version: its {read} rows"
                " have defaults or nulls instead; nothing was loaded; delete these rows and load the file with --again"
            )
        raise Terminal(
            f"{path} has changed since it was loaded: expected {rows} rows, known as {name[:_NAME_SHOWN]}…"
            f" ({read} of them loaded), found {scanned.rows} rows, known as {scanned.ledger_name[:_NAME_SHOWN]}…;"
            " nothing was loaded; restore the old file, or rename the new one (its existing rows are counted as"
            " duplicates)"
        )
    check_table_of_stream(connection, scanned.ledger_name, scanned.layout.table.regclass)
    known = undrained(connection, scanned.ledger_name, scanned.end)
    gaps = known.gaps if known else (IdRange(0, scanned.end),)
    recorded, read = (found[0][1], found[0][4]) if found else (scanned.reading, 0)
    before, now = times_of(recorded), times_of(scanned.reading)
    if gaps and read and before != now:
        raise Terminal(
            f"{scanned.file.display_name}: {read} of its {scanned.rows} rows were loaded with times from"
            f" {before!r}, expected the same for the rest, found {now!r}; nothing was loaded; restore"
            " the old mapping, or load the whole file again (--again)"
        )
    return Remaining(gaps, count_rows(scanned.section, gaps), bool(read) and is_of_texts(scanned.layout, recorded))


def register(connection: psycopg.Connection, scanned: ScannedFile, name: str, skipped: IdRange | None) -> None:
    """Create or update the ledger `name` of a file before its rows are loaded. `skipped`: addresses not loaded."""
    values = {
        "name": name,
        "path": scanned.file.display_name,
        "mapping": scanned.layout.mapping.name,
        "reading": scanned.reading,
        "rows": scanned.rows,
        "own": _own_columns(scanned.layout),
        "start": skipped and skipped.start,
        "stop": skipped and skipped.stop,
    }
    with connection.transaction():
        register_stream(connection, name, scanned.layout.table.regclass)
        connection.execute(_DESCRIBE, values)
        connection.execute(_UNSETTLE, [name])


def settle(connection: psycopg.Connection, scanned: ScannedFile, name: str, skipped: int) -> None:
    """Record that all rows of a file are loaded except `skipped` rows. `reconcile` checks the ledger against this."""
    values = {"name": name, "last": scanned.end - 1, "added": scanned.rows - skipped}
    connection.execute(_SETTLE, values)


def _own_columns(layout: RowLayout) -> list[str] | None:
    """The columns of a file of an archive besides the standard ones. None for any other file."""
    return [name for name in layout.restored or () if name not in _STANDARD] or None


def find_layout(connection: psycopg.Connection, stream: str, mappings: StreamMappings) -> RowLayout:
    """How the entries of a stream or the rows of a loaded file become rows. Raises `Terminal` and `psycopg.Error`."""
    row = connection.execute(_MAPPING, [stream]).fetchone() if is_file_ledger(stream) else None
    name, reading, own = row or (original_name(stream), "", None)
    mapping = _with_table(mappings.for_stream(name) if name else BUILT_IN, table_of_stream(connection, stream))
    if row is None:
        return read_layout(connection, mapping)
    if own:
        table = read_table(connection, mapping.table or default_table_name())
        present = existing_columns(table, own)  # a dropped column cannot be compared
        return fit_layout(bind(BUILT_IN, table, (*_STANDARD, *present)), tuple(c.encode() for c in _STANDARD))
    keys = (BUILT_IN.document_field,) if is_document(reading) else (b"event_id",)
    layout = read_layout(connection, mapping).with_json_keys(json_keys_of(reading))
    return layout if mapping.layout == "json" and is_document(reading) else fit_layout(layout, keys)


def _with_table(mapping: StreamMapping, fixed: str | None) -> StreamMapping:
    """The mapping with the table that the rows of the stream went to: that of the mapping may have changed since."""
    if fixed is None or mapping.routes or quoted_name(mapping.table or EVENTS) == fixed:
        return mapping
    return replace(mapping, table=None if fixed == default_table_name() else fixed)


def find_path(connection: psycopg.Connection, stream: str) -> str | None:
    """The path of the file that a ledger name belongs to. None for a stream."""
    row = connection.execute(_PATH, [stream]).fetchone()
    return None if row is None else str(row[0])
