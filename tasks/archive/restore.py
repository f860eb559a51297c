"""Decide which archived columns are restored into the present table. No column is left out silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.errors.exceptions import Terminal, WrongUse
from infra.tables.read_table import is_default
from infra.tables.statements import as_written
from infra.tables.table import Table
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.manifest import Manifest
from tasks.archive.verify import read_archive
from tasks.archive.write_chunk import exact_key
from tasks.columns.column_forms import STANDARD_COLUMNS, Column
from tasks.files.formats.parquet import text_of
from tasks.table.chunks import chunks

_TABLE = """
    SELECT attname, format_type(atttypid, atttypmod), attgenerated <> '' FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
# Without its modifier: archived values are already truncated to it. Null if the type no longer exists.
_KNOWN = "SELECT format_type(to_regtype(%s), -1)"
# Counts values that change when they are cast to the new type and back.
_CHANGED: LiteralString = """
    SELECT count(*) FROM unnest(%s::text[]) AS archived (value),
           LATERAL (SELECT value::{new} AS new OFFSET 0) AS cast_to
     WHERE {before} IS DISTINCT FROM {after}"""
_OURS = frozenset(column.name for column in STANDARD_COLUMNS)


@dataclass(frozen=True)
class RestoredColumns:
    """`columns`: for each archive, the columns to restore. `warnings`: what differs from the archived table."""

    columns: Sequence[tuple[str, ...]]
    warnings: Sequence[str]


def restored_columns(
    connection: psycopg.Connection,
    table: Table,
    root: ArchiveRoot,
    manifests: Sequence[Manifest],
    without: Sequence[str],
) -> RestoredColumns:
    """Compare the columns of archives with those of the table. `without`: columns that the operator leaves out.

    Columns added since get their default, and generated columns are computed again. Raises `Terminal` if an archived
    column is missing from the table, or has a type there that would change one of its values; nothing is loaded then.
    Raises `WrongUse` for a name in `without` that no archive has, and `BadArchive` and `psycopg.Error`.
    """
    needed = _needed(table)
    _demand_archived(manifests, without, needed)
    with fixed_texts(connection):
        rows = connection.execute(_TABLE, [table.regclass]).fetchall()
    now = {name: Column(name, kind, "", generated) for name, kind, generated in rows}
    left_out = set(without)
    _demand_present(table, manifests, now.keys() | left_out)
    fixed = _OURS if is_default(table) else frozenset[str]()  # what writes an archive has checked their types
    columns = []
    for manifest in manifests:
        archived = [c for c in manifest.columns if c.name not in left_out and not now[c.name].generated]
        for column in archived:
            if column.name not in fixed and column.type != now[column.name].type:
                _demand_lossless(connection, root, manifest, column, now[column.name].type)
        columns.append(tuple(column.name for column in archived))
    own = {name: column for name, column in now.items() if name not in fixed}
    return RestoredColumns(columns, list(_warnings(manifests, own, left_out)))


def doubled_archives(
    connection: psycopg.Connection, table: Table, manifests: Sequence[Manifest]
) -> dict[Manifest, str]:
    """The archives whose rows would be doubled, with the reason, if the table has no key that would find duplicates.

    Their chunk exists and is older than the archive, so their rows are still in the table; or a later archive is of the
    same chunk. Rows that come after a drop make a new chunk, with another name. Raises `psycopg.Error`.
    """
    if exact_key(table):
        return {}
    there = chunks(connection, table)
    latest = {(m.chunk.schema, m.chunk.table): m for m in sorted(manifests, key=lambda m: m.archived_at)}
    found = {}
    for manifest in manifests:
        name = (manifest.chunk.schema, manifest.chunk.table)
        if any((chunk.schema, chunk.table) == name for chunk in there):
            found[manifest] = f"its {manifest.rows} rows are still in the table"
        elif latest[name] is not manifest:
            found[manifest] = f"{latest[name].name} is a later archive of the same chunk"
    return found


def explain_doubled(table: Table, manifest: Manifest, reason: str) -> str:
    """A warning that an archive is left out because of `doubled_archives`."""
    return (
        f"restore {manifest.name}: {reason}, and {table.display_name} has no unique key without nulls by which its rows"
        " would be duplicates: left out"
    )


def _needed(table: Table) -> frozenset[str]:
    """The columns that every row needs a value for: those of the key and the time, and those without a default."""
    if is_default(table):
        return _OURS
    required = {column.name for column in table.columns if column.required}
    return frozenset(required | {name for key in table.keys[:1] for name in key} | ({table.time or ""} - {""}))


def _demand_archived(manifests: Sequence[Manifest], without: Sequence[str], needed: frozenset[str]) -> None:
    known = {column.name for manifest in manifests for column in manifest.columns}
    for name in without:
        if name in needed or name not in known:
            found = "a column that every row needs" if name in needed else "no archive with it"
            raise WrongUse(
                f"restore: expected an archived column to leave out, found {found}: {name!r}; nothing was loaded; name"
                " another column (--without), or none"
            )


def _demand_present(table: Table, manifests: Sequence[Manifest], present: Iterable[str]) -> None:
    there = set(present)
    vanished = {c.name: c for manifest in manifests for c in manifest.columns if c.name not in there}
    if vanished:
        listed = ", ".join(f"{_quoted(c.name)} {c.type}" for c in vanished.values())
        added = ", ".join(f"ADD COLUMN {_quoted(c.name)} {c.type}" for c in vanished.values())
        options = " ".join(f"--without {_shell(name)}" for name in vanished)
        raise Terminal(
            f"restore: expected the archived columns {listed} in {table.display_name}, found none of that name; nothing"
            f" was loaded; add them again (ALTER TABLE {table.regclass} {added}), or restore without their values"
            f" ({options})"
        )


def _demand_lossless(
    connection: psycopg.Connection, root: ArchiveRoot, manifest: Manifest, column: Column, new_type: str
) -> None:
    """Raise `Terminal` if the new type would change a value of the column. The message does not quote values."""
    with fixed_texts(connection):
        (old_type,) = connection.execute(_KNOWN, [column.type]).fetchone() or (None,)
        query = _changed(old_type, new_type)
        for batch in read_archive(root, manifest):
            field = batch.schema.field(column.name)
            texts = [None if v is None else v.decode() for v in text_of(field, batch.column(column.name)).to_pylist()]
            try:
                (changed,) = connection.execute(query, [texts]).fetchone() or (0,)
            except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
                raise _lossy(manifest, column, new_type, f"a value that it rejects [{error.sqlstate}]") from None
            if changed:
                raise _lossy(manifest, column, new_type, "values that it would change")


def _changed(old_type: str | None, new_type: str) -> sql.Composed:
    # Both come from `format_type`, which adds quotes and schemas where necessary.
    new, value = _trusted(new_type), sql.SQL("value")
    there = as_written(sql.SQL("cast_to.new"))
    if old_type is None:
        return sql.SQL(_CHANGED).format(new=new, before=value, after=there)
    old = _trusted(old_type)
    before = as_written(sql.SQL("value::{}").format(old))
    after = as_written(sql.SQL("({})::{}").format(there, old))
    return sql.SQL(_CHANGED).format(new=new, before=before, after=after)


def _trusted(name: str) -> sql.SQL:
    doubled: Any = name.replace("%", "%%")
    return sql.SQL(doubled)


def _lossy(manifest: Manifest, column: Column, new_type: str, found: str) -> Terminal:
    return Terminal(
        f"restore {manifest.name}: the column {_quoted(column.name)} was archived as {column.type} and is {new_type}"
        f" today: expected a type that holds its values, found {found}; nothing was loaded; give the column its former"
        f" type or a wider one, or restore without it (--without {_shell(column.name)})"
    )


def _warnings(manifests: Sequence[Manifest], now: dict[str, Column], left_out: set[str]) -> Iterable[str]:
    for name in sorted(left_out):
        yield f"restore: the archived values of the column {_quoted(name)} are left out, as asked"
    for name, column in sorted(now.items()):
        before = [m for m in manifests if name not in {archived.name for archived in m.columns}]
        if before and not column.generated:
            yield (
                f"restore: the column {_quoted(name)} was added after {len(before)} of {len(manifests)} archives were"
                f" made: their {sum(m.rows for m in before)} rows get its default"
            )
        if column.generated and any(c.name == name and not c.generated for m in manifests for c in m.columns):
            yield (
                f"restore: the server now generates the column {_quoted(name)}: its archived values are not restored"
            )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _shell(name: str) -> str:
    return name if name.isidentifier() else "'" + name.replace("'", "'\\''") + "'"
