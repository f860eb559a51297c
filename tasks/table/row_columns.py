"""The columns that the rows of a batch have, as statements name them in the table and in the staging table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, LiteralString

from psycopg import sql

from infra.epoch import timestamptz_sql
from infra.tables.statements import as_written, parameter_safe
from infra.tables.table import Table, TableColumn
from tasks.columns.routing import TableRows

# Types with an equality operator that compares values as a person would. Values of other types are compared as text.
_COMPARABLE = frozenset(
    {
        "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "bytea", "uuid",
        "timestamptz", "timestamp", "date", "time", "timetz", "interval", "jsonb", "inet", "cidr", "macaddr",
    }
)  # fmt: skip
_DIFFERS: LiteralString = " WHEN {condition} THEN {name}"


@dataclass(frozen=True)
class RowColumns:
    """The columns `names` of rows for `table`. In the staging table they are `c1`, `c2`, …, which collide with nothing.

    `key`: those that detect duplicates, or none. `defaulted`: those in which a null stands for the column's default.
    `binary`: the format of the COPY. The methods give parts of statements with
    parameters, the properties parts of statements without.
    """

    table: Table
    names: tuple[str, ...]
    key: tuple[str, ...]
    defaulted: tuple[str, ...] = ()
    binary: bool = True

    @classmethod
    def of(cls, table_rows: TableRows) -> RowColumns:
        """The columns of the rows of a batch."""
        encoded, layout = table_rows.encoded, table_rows.layout
        return cls(layout.table, encoded.columns, layout.key, encoded.defaulted, encoded.binary)

    @cached_property
    def numbered(self) -> dict[str, str]:
        """The name of each column in the staging table, by its name in the table."""
        return {name: f"c{number}" for number, name in enumerate(self.names, 1)}

    @cached_property
    def originals(self) -> dict[str, str]:
        """The name of each column in the table, by its name in the staging table."""
        return {staged: name for name, staged in self.numbered.items()}

    @property
    def copy_format(self) -> sql.SQL:
        """The format of the COPY."""
        return sql.SQL("BINARY" if self.binary else "TEXT")

    @property
    def listed(self) -> sql.Composed:
        """The names in the table, as a list in SQL, for a statement without parameters."""
        return sql.SQL(", ").join(map(sql.Identifier, self.names))

    @property
    def staged(self) -> sql.Composed:
        """The names in the staging table, in the same order."""
        return sql.SQL(", ").join(map(sql.Identifier, self.numbered.values()))

    @property
    def values(self) -> sql.Composed:
        """The staged values in the same order, with its default for each null that stands for one."""
        parts: list[sql.Composable] = []
        for name, staged in self.numbered.items():
            column = sql.Identifier(staged)
            default = self._default(name) if name in self.defaulted else None
            parts.append(sql.SQL("coalesce({}, ({}))").format(column, default) if default else column)
        return sql.SQL(", ").join(parts)

    @property
    def named_as_staged(self) -> sql.Composed:
        """A select list from the table, with the names of the staging table."""
        pairs = (sql.SQL("{} AS {}").format(sql.Identifier(n), sql.Identifier(s)) for n, s in self.numbered.items())
        return sql.SQL(", ").join(pairs)

    @property
    def named_as_in_table(self) -> sql.Composed:
        """A select list from the staging table, with the names of the table."""
        pairs = (sql.SQL("{} AS {}").format(sql.Identifier(s), sql.Identifier(n)) for n, s in self.numbered.items())
        return sql.SQL(", ").join(pairs)

    @property
    def key_listed(self) -> sql.Composed:
        """The columns of the key in the table."""
        return sql.SQL(", ").join(map(sql.Identifier, self.key))

    @property
    def key_defaults(self) -> list[sql.Composed]:
        """Assignments of its default to each column of the key in which a null stands for it."""
        return [
            sql.SQL("{c} = {default} WHERE {c} IS NULL").format(
                c=sql.Identifier(self.numbered[name]), default=self._default(name)
            )
            for name in self.key
            if name in self.defaulted
        ]

    @property
    def staged_key(self) -> sql.Composed:
        """The columns of the key in the staging table."""
        return sql.SQL(", ").join(sql.Identifier(self.numbered[name]) for name in self.key)

    @property
    def order(self) -> sql.Composed:
        """The order in which rows are merged: by time and key, so that loads which share keys wait in one order."""
        names = dict.fromkeys((*([self.table.time] if self.table.time in self.numbered else []), *self.key))
        columns: list[sql.Composable] = [sql.Identifier(self.numbered[name]) for name in names if name]
        return sql.SQL(", ").join([*columns, sql.SQL("number")])

    @property
    def staged_equals_put(self) -> sql.Composed:
        """Whether the staged row `s` and the row `put` of the table have one key."""
        pairs = ((sql.Identifier("s", self.numbered[name]), sql.Identifier("put", name)) for name in self.key)
        return sql.SQL(" AND ").join(sql.SQL(self._equals).format(mine, theirs) for mine, theirs in pairs)

    @property
    def _equals(self) -> LiteralString:
        """The comparison of a column of the key. Only with NULLS NOT DISTINCT is a null equal to another one."""
        return "{} IS NOT DISTINCT FROM {}" if self.key in self.table.nulls_equal else "{} = {}"

    @property
    def key_is_complete(self) -> sql.Composed:
        """Whether no column of the key is null in the staged row `s`: a null is not equal to another."""
        if self.key in self.table.nulls_equal:
            return sql.Composed([sql.SQL("true")])
        nullable = [sql.Identifier("s", self.numbered[n]) for n in self.key if self.table.by_name[n].nullable]
        parts = [sql.SQL("{} IS NOT NULL").format(name) for name in nullable]
        return sql.SQL(" AND ").join(parts) if parts else sql.Composed([sql.SQL("true")])

    def key_equals(self, row: LiteralString, other: LiteralString, staged: bool = True) -> sql.Composed:
        """Whether `row` and the row `other` of the table have one key. `staged`: `row` is in the staging table."""
        return sql.SQL(" AND ").join(
            sql.SQL(self._equals).format(_of(row, self.numbered[name] if staged else name), _of(other, name))
            for name in self.key
        )

    def same_key(self, row: LiteralString = "s", other: LiteralString = "e", staged: bool = True) -> sql.Composed:
        """`key_equals`, within a span of times.

        The span, as constants, keeps the server from looking into every chunk: pass the first and last time of `row` as
        the parameters `first` and `last` (microseconds since 1970).
        """
        equal = self.key_equals(row, other, staged)
        if self.table.time not in self.key:
            return equal
        return sql.SQL(" AND ").join([equal, self.within_span(other)])

    def within_span(self, row: LiteralString) -> sql.Composed:
        """Whether the time of a row of the table is from `first` to `last`. True if rows bring no time."""
        if self.table.time not in self.numbered or self.table.time is None:
            return sql.Composed([sql.SQL("true")])
        first, last = (_cast(text, self.table.by_name[self.table.time]) for text in _SPAN)
        return sql.SQL("{} BETWEEN {} AND {}").format(_of(row, self.table.time), first, last)

    def contents(self, row: LiteralString, staged: bool = True) -> sql.Composed:
        """The values of a row as a list, without those of columns in which a null stands for a default."""
        names = [name for name in self.names if name not in self.defaulted]
        return sql.SQL(", ").join(_of(row, self.numbered[name] if staged else name) for name in names)

    def first_difference(
        self, row: LiteralString, other: LiteralString, staged: LiteralString | None = None
    ) -> sql.Composed:
        """An expression: the first column in which `row` differs from the row `other` of the table; null if none does.

        The key is not compared, nor a value that comes from the column's default. `staged`: the staged row that `row`
        was made from, if it is not one itself.
        """
        branches = [self._branch(name, row, other, staged) for name in self.names if name not in self.key]
        if not branches:
            return sql.Composed([sql.SQL("NULL::text")])
        return sql.SQL("CASE{} END").format(sql.Composed(branches))

    def _default(self, name: str) -> sql.Composable:
        """The default of a column as an expression."""
        default: Any = self.table.by_name[name].default
        if default:  # as the server spells it, so it is safe to execute
            return sql.SQL(default)
        sequence = sql.SQL("nextval(pg_catalog.pg_get_serial_sequence({}, {}))")
        return sequence.format(sql.Literal(self.table.regclass), sql.Literal(name))

    def _branch(
        self, name: str, row: LiteralString, other: LiteralString, staged: LiteralString | None
    ) -> sql.Composed:
        mine: sql.Composable = _of(row, name if staged else self.numbered[name])
        theirs: sql.Composable = _of(other, name)
        sent = _of(staged or row, self.numbered[name])
        present = sql.SQL("{} IS NOT NULL AND ").format(sent) if name in self.defaulted else sql.SQL("")
        if self.table.by_name[name].base not in _COMPARABLE and self.table.by_name[name].kind != "e":
            mine, theirs = as_written(mine), as_written(theirs)
        condition = sql.SQL("{}{} IS DISTINCT FROM {}").format(present, mine, theirs)
        return sql.SQL(_DIFFERS).format(condition=condition, name=parameter_safe(sql.Literal(name)))


_SPAN = (timestamptz_sql("%(first)s"), timestamptz_sql("%(last)s"))


def _cast(moment: LiteralString, column: TableColumn) -> sql.Composed:
    """A timestamptz as a value of the type of the time column. Other types have no zone: theirs is UTC."""
    if column.base == "timestamptz":
        return sql.Composed([sql.SQL(moment)])
    text = "({} AT TIME ZONE 'UTC')" if column.base == "timestamp" else "({} AT TIME ZONE 'UTC')::date"
    return sql.SQL(text).format(sql.SQL(moment))


def existing_columns(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """The columns among `names` that the table still has and whose values an archive brings."""
    found = [column for name in names if (column := table.by_name.get(name)) is not None]
    return tuple(column.name for column in found if column.numbered or not column.generated)


def _of(row: LiteralString, name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(parameter_safe(sql.Identifier(row)), parameter_safe(sql.Identifier(name)))
