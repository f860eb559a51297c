"""The columns that the rows of a batch have, as statements name them in `events` and in the staging table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.table import as_written, events_name, parameter_safe
from tasks.columns.encode import COLUMNS

_OURS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_PRESENT = """
    SELECT attname FROM pg_attribute
     WHERE attrelid = %s::regclass AND attname = ANY(%s) AND attgenerated = '' AND NOT attisdropped"""
_DIFFERS: LiteralString = " WHEN {row} IS DISTINCT FROM {there} THEN {name}"


@dataclass(frozen=True)
class RowColumns:
    """Spillway's columns and `own`, the user's own columns, which only rows of an archive have.

    In the staging table the user's columns are numbered (`own_1`, …), so that their names collide with nothing.
    """

    own: tuple[str, ...] = ()

    @property
    def listed(self) -> sql.Composed:
        """The names in `events`, as a list in SQL."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self.own)])

    @property
    def staged(self) -> sql.Composed:
        """The names in the staging table, in the same order."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self._staged_own)])

    @property
    def named_as_staged(self) -> sql.Composed:
        """A SELECT list from `events`, with the names of the staging table."""
        pairs = zip(self.own, self._staged_own, strict=True)
        own = [sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(staged)) for name, staged in pairs]
        return sql.SQL(", ").join([_OURS, *own])

    @property
    def copy_format(self) -> sql.SQL:
        """The COPY format in which `tasks.columns.encode.encode` writes such rows."""
        return sql.SQL("TEXT" if self.own else "BINARY")

    @property
    def names(self) -> dict[str, str]:
        """The name of each column in `events`, by its name in the staging table."""
        return dict(zip(COLUMNS, COLUMNS, strict=True)) | dict(zip(self._staged_own, self.own, strict=True))

    def own_differs(self, row: LiteralString, there: LiteralString, staged: bool = True) -> sql.Composed:
        """CASE branches that give the first of the user's own columns in which `row` differs from the row `there`.

        For a statement with parameters. `staged`: `row` is in the staging table. Values are compared as text, since not
        every type has an equality operator.
        """
        parts = []
        for name, number in zip(self.own, self._staged_own, strict=True):
            mine = sql.SQL("{}.{}").format(_name(row), _name(number if staged else name))
            other = sql.SQL("{}.{}").format(_name(there), _name(name))
            shown = parameter_safe(sql.Literal(name))
            parts.append(sql.SQL(_DIFFERS).format(row=as_written(mine), there=as_written(other), name=shown))
        return sql.Composed(parts)

    @property
    def _staged_own(self) -> list[str]:
        return [f"own_{number}" for number in range(1, len(self.own) + 1)]


def existing_columns(connection: psycopg.Connection, own: tuple[str, ...]) -> tuple[str, ...]:
    """The columns among `own` that `events` still has and that the server does not generate."""
    found = {name for (name,) in connection.execute(_PRESENT, [events_name(), list(own)])} if own else set()
    return tuple(name for name in own if name in found)


def _name(name: str) -> sql.SQL:
    return parameter_safe(sql.Identifier(name))
