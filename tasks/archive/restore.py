"""Which columns of an archive go back into the table as it is today: never fewer than were archived without a word."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from infra.connections.session import fixed_texts
from infra.errors.exceptions import Terminal, WrongUse
from infra.table import as_written, events_name
from tasks.archive.archive_root import ArchiveRoot
from tasks.archive.column_forms import STANDARD_COLUMNS, Column
from tasks.archive.manifest import Manifest
from tasks.archive.verify import read_archive
from tasks.files.formats.parquet import text_of

_TABLE = """
    SELECT attname, format_type(atttypid, atttypmod), attgenerated <> '' FROM pg_attribute
     WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""
# Without its modifier: what a value was cut to is in the value. Null where there is no such type any more.
_KNOWN = "SELECT format_type(to_regtype(%s), -1)"
# Values that would not be the same again, had they been another type in between.
_CHANGED: LiteralString = """
    SELECT count(*) FROM unnest(%s::text[]) AS archived (value),
           LATERAL (SELECT value::{new} AS new OFFSET 0) AS cast_to
     WHERE {before} IS DISTINCT FROM {after}"""
_OURS = frozenset(column.name for column in STANDARD_COLUMNS)


@dataclass(frozen=True)
class RestoredColumns:
    """`own`: of each archive the columns besides ours that go back. `warnings`: what is not as it was archived."""

    own: Sequence[tuple[str, ...]]
    warnings: Sequence[str]


def restored_columns(
    connection: psycopg.Connection, root: ArchiveRoot, manifests: Sequence[Manifest], without: Sequence[str]
) -> RestoredColumns:
    """Hold the columns of archives against those of the table. `without`: columns that an operator leaves out.

    A column that was added since gets its default, and one that the server generates today is computed again. Raises
    `Terminal` if an archived column is not in the table, or has a type there that changes a value of it; nothing is
    loaded then. Raises `psycopg.Error`, `BadArchive`.
    """
    _demand_archived(manifests, without)
    with fixed_texts(connection):
        rows = connection.execute(_TABLE, [events_name()]).fetchall()
    now = {name: Column(name, kind, "", generated) for name, kind, generated in rows if name not in _OURS}
    left_out = set(without)
    _demand_present(manifests, now.keys() | left_out)
    own = []
    for manifest in manifests:
        archived = [c for c in manifest.columns if c.name not in _OURS | left_out and not now[c.name].generated]
        for column in archived:
            if column.type != now[column.name].type:
                _demand_lossless(connection, root, manifest, column, now[column.name].type)
        own.append(tuple(column.name for column in archived))
    return RestoredColumns(own, list(_warnings(manifests, now, left_out)))


def _demand_archived(manifests: Sequence[Manifest], without: Sequence[str]) -> None:
    known = {column.name for manifest in manifests for column in manifest.columns}
    for name in without:
        if name in _OURS or name not in known:
            found = "a column that every row needs" if name in _OURS else "no archive with it"
            raise WrongUse(
                f"restore: expected an archived column to leave out, found {found}: {name!r}; nothing was loaded: leave"
                " out another one (--without), or none"
            )


def _demand_present(manifests: Sequence[Manifest], present: Iterable[str]) -> None:
    there = _OURS | set(present)
    vanished = {c.name: c for manifest in manifests for c in manifest.columns if c.name not in there}
    if vanished:
        shown = events_name().replace('"', "")
        listed = ", ".join(f"{_quoted(c.name)} {c.type}" for c in vanished.values())
        added = ", ".join(f"ADD COLUMN {_quoted(c.name)} {c.type}" for c in vanished.values())
        options = " ".join(f"--without {_shell(name)}" for name in vanished)
        raise Terminal(
            f"restore: expected the archived columns {listed} in {shown}, found none of that name; nothing was loaded:"
            f" bring them back (ALTER TABLE {events_name()} {added}), or restore without their values ({options})"
        )


def _demand_lossless(
    connection: psycopg.Connection, root: ArchiveRoot, manifest: Manifest, column: Column, new_type: str
) -> None:
    """Raise `Terminal` if a value of a retyped column would not be the same again. The values are never shown."""
    with fixed_texts(connection):
        (old_type,) = connection.execute(_KNOWN, [column.type]).fetchone() or (None,)
        query = _changed(old_type, new_type)
        for batch in read_archive(root, manifest):
            field = batch.schema.field(column.name)
            texts = [None if v is None else v.decode() for v in text_of(field, batch.column(column.name)).to_pylist()]
            try:
                (changed,) = connection.execute(query, [texts]).fetchone() or (0,)
            except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
                raise _lossy(manifest, column, new_type, f"a value that is none of it [{error.sqlstate}]") from None
            if changed:
                raise _lossy(manifest, column, new_type, "values that it would change")


def _changed(old_type: str | None, new_type: str) -> sql.Composed:
    # Both are what `format_type` writes: quoted where they must be, with their schemas.
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
        f" today: expected a type that holds its values, found {found}; nothing was loaded: give the column its former"
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
                f"restore: the server generates the column {_quoted(name)} today: its archived values are not put back"
            )


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _shell(name: str) -> str:
    return name if name.isidentifier() else "'" + name.replace("'", "'\\''") + "'"
