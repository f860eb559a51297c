"""A table as the database's catalog describes it: the only schema that Spillway knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from psycopg import sql

from infra.tables.statements import parameter_safe


class TableKind(Enum):
    """What a table is to the server. A partitioned table is one of PostgreSQL's own."""

    HYPERTABLE = "hypertable"
    PARTITIONED = "partitioned table"
    PLAIN = "table"


@dataclass(frozen=True)
class TableColumn:
    """A column. `type`: as PostgreSQL spells it, with its modifier, such as `numeric(10,2)` or `mood[]`.

    `base`: the name in `pg_type` of its type, below all domains: `int4`, `timestamptz`, `_text` (an array), `mood`.
    `kind`: the `typtype` of that type: `b` base, `e` enum, `r` range, `c` composite, `m` multirange.
    `constrained`: it has a modifier or a domain, so the server may change or reject a value that fits `base`; or a
    collation in which different texts can be equal.
    `default`: the expression of its default, of its own or of its domain; `""` for an identity column that accepts
    values; None without one. `generated`: the server computes it always, so no value can be inserted.
    `numbered`: it is generated as an identity, so only an archive that is restored brings its values.
    `set_by_trigger`: a trigger of the user runs before each row is inserted, and may set it. Never a column of a key
    or the time.
    """

    name: str
    type: str
    base: str
    kind: str = "b"
    nullable: bool = True
    constrained: bool = False
    default: str | None = None
    generated: bool = False
    set_by_trigger: bool = False
    numbered: bool = False

    @property
    def required(self) -> bool:
        """Whether every row must bring a value."""
        return not (self.nullable or self.generated or self.set_by_trigger) and self.default is None


@dataclass(frozen=True)
class Table:
    """A table. `keys`: the columns of each unique index that can detect duplicates, the primary key first.

    `time`: the column of its first dimension or range partition if that is a timestamptz, timestamp or date, else
    None. `columnstore`: it has columnstore (compression) enabled.
    `direct_compression`: the server can compress rows while they are copied, and its version does so safely.
    `nulls_equal`: those of the keys that are NULLS NOT DISTINCT.
    """

    schema: str
    name: str
    kind: TableKind
    columns: tuple[TableColumn, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    time: str | None = None
    columnstore: bool = False
    direct_compression: bool = False
    nulls_equal: tuple[tuple[str, ...], ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        """The table in a statement, always with its schema: the `search_path` decides nothing."""
        return sql.Identifier(self.schema, self.name)

    @property
    def parameter_safe(self) -> sql.SQL:
        """The table in a statement with parameters."""
        return parameter_safe(self.identifier)

    @property
    def regclass(self) -> str:
        """The quoted name with its schema, as text for a `regclass` and for the ledger."""
        return self.identifier.as_string(None)

    @property
    def display_name(self) -> str:
        """The name for messages and reports."""
        return f"{self.schema}.{self.name}"

    @cached_property
    def by_name(self) -> Mapping[str, TableColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}
