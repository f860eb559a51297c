"""The columns that the rows of a batch bring, as statements name them in `events` and in the temporary table."""

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
    """Ours, and `own`: columns of the user's own, which only rows of an archive bring.

    In the temporary table these have names of ours, so that none can collide with another column of it.
    """

    own: tuple[str, ...] = ()

    @property
    def listed(self) -> sql.Composed:
        """The names in the user's table."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self.own)])

    @property
    def staged(self) -> sql.Composed:
        """The names in the temporary table, in the same order."""
        return sql.SQL(", ").join([_OURS, *map(sql.Identifier, self._staged_own)])

    @property
    def named_as_staged(self) -> sql.Composed:
        """Those of the user's table, with the names in the temporary one."""
        pairs = zip(self.own, self._staged_own, strict=True)
        own = [sql.SQL("{} AS {}").format(sql.Identifier(name), sql.Identifier(staged)) for name, staged in pairs]
        return sql.SQL(", ").join([_OURS, *own])

    @property
    def copy_format(self) -> sql.SQL:
        """As `tasks.columns.encode.encode` writes such rows."""
        return sql.SQL("TEXT" if self.own else "BINARY")

    @property
    def names(self) -> dict[str, str]:
        """By its name in the temporary table, the name of each column."""
        return dict(zip(COLUMNS, COLUMNS, strict=True)) | dict(zip(self._staged_own, self.own, strict=True))

    def own_differs(self, row: LiteralString, there: LiteralString, staged: bool = True) -> sql.Composed:
        """The branches of a CASE, in a statement that has parameters, that give the name of the first column of the
        user's own in which a row is another than the row `there`. `staged`: the first one is in the temporary table.

        By their text: not every type can be compared.
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
    """Those of the user's columns that the table still has, and that the server does not generate."""
    found = {name for (name,) in connection.execute(_PRESENT, [events_name(), list(own)])} if own else set()
    return tuple(name for name in own if name in found)


def _name(name: str) -> sql.SQL:
    return parameter_safe(sql.Identifier(name))
