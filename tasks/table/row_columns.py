"""The columns that the rows of a batch have, as statements name them in `events` and in the staging table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.tables.events import events_name
from infra.tables.statements import as_written, parameter_safe
from tasks.columns.encode import COLUMNS

_OURS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_PRESENT = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = %s::regclass AND attname = ANY(%s) AND attgenerated = '' AND NOT attisdropped"""
_DIFFERS: LiteralString = " WHEN {row} IS DISTINCT FROM {theirs} THEN {name}"


@dataclass(frozen=True)
class RowColumns:
    """Spillway's columns and `extra_columns`, the user's own, which only rows of an archive have.

    In the staging table the user's columns are numbered (`extra_1`, …), so that their names collide with nothing.
    """

    extra_columns: tuple[str, ...] = ()

    @property
    def listed(self) -> sql.Composed:
        """The names in `events`, as a list in SQL."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self.extra_columns)])

    @property
    def staged(self) -> sql.Composed:
        """The names in the staging table, in the same order."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self._staged_extra_columns)])

    @property
    def named_as_staged(self) -> sql.Composed:
        """A SELECT list from `events`, with the names of the staging table."""
        pairs = zip(self.extra_columns, self._staged_extra_columns, strict=True)
        extra = [sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(staged)) for name, staged in pairs]
        return sql.SQL(", ").join([_OURS, *extra])

    @property
    def copy_format(self) -> sql.SQL:
        """The COPY format in which `tasks.columns.encode.encode` writes such rows."""
        return sql.SQL("TEXT" if self.extra_columns else "BINARY")

    @property
    def names(self) -> dict[str, str]:
        """The name of each column in `events`, by its name in the staging table."""
        extra = dict(zip(self._staged_extra_columns, self.extra_columns, strict=True))
        return dict(zip(COLUMNS, COLUMNS, strict=True)) | extra

    def extra_column_differs(self, row: LiteralString, other: LiteralString, staged: bool = True) -> sql.Composed:
        """CASE branches that give the first of the user's own columns in which `row` differs from the row `other`.

        For a statement with parameters. `staged`: `row` is in the staging table. Values are compared as text, since not
        every type has an equality operator.
        """
        parts = []
        for name, number in zip(self.extra_columns, self._staged_extra_columns, strict=True):
            mine = sql.SQL("{}.{}").format(_name(row), _name(number if staged else name))
            theirs = sql.SQL("{}.{}").format(_name(other), _name(name))
            literal = parameter_safe(sql.Literal(name))
            parts.append(sql.SQL(_DIFFERS).format(row=as_written(mine), theirs=as_written(theirs), name=literal))
        return sql.Composed(parts)

    @property
    def _staged_extra_columns(self) -> list[str]:
        return [f"extra_{number}" for number in range(1, len(self.extra_columns) + 1)]


def existing_columns(connection: psycopg.Connection, names: tuple[str, ...]) -> tuple[str, ...]:
    """The columns among `names` that `events` still has and that the server does not generate."""
    found = {name for (name,) in connection.execute(_PRESENT, [events_name(), list(names)])} if names else set()
    return tuple(name for name in names if name in found)


def _name(name: str) -> sql.SQL:
    return parameter_safe(sql.Identifier(name))
