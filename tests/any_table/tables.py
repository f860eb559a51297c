"""Random tables: keys, constraints and triggers, of every kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from tests.any_table.columns import (
    KEY_TYPES,
    NAMES,
    POOL_OF_TYPE,
    SCHEMA,
    TIME_TYPES,
    Column,
    literal,
    quoted,
    random_column,
)


@dataclass(frozen=True)
class RandomTable:
    """A table. `kind`: hypertable, plain, or how it is partitioned. `time`: the column of its time dimension, if it has
    one that a time window applies to. `constraints`: CHECK, UNIQUE and so on, as SQL. `after`: statements with the
    placeholder {table}."""

    name: str
    kind: str
    columns: tuple[Column, ...]
    dimension: str | None = None
    time: str | None = None
    key: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def filled(self) -> tuple[Column, ...]:
        """The columns that an entry can fill."""
        return tuple(column for column in self.columns if not (column.computed or column.dropped))

    def statements(self, schema: str) -> list[str]:
        """The statements that create it, and its partitions, in a schema."""
        table = f"{quoted(schema)}.{quoted(self.name)}"
        inner = ", ".join([*(column.sql for column in self.columns), *self.constraints])
        suffix = f" PARTITION BY {self.kind}" if self.kind.startswith(("RANGE", "LIST", "HASH")) else ""
        made = [f"CREATE TABLE {table} ({inner}){suffix}"]
        made += self._partitions(schema, table)
        if self.kind == "hypertable":
            by = next(column for column in self.columns if column.name == self.dimension)
            width = "10::bigint" if by.type == "int8" else "interval '7 days'"
            made.append(
                f"SELECT create_hypertable({literal(table)}, {literal(by.name)}, chunk_time_interval => {width})"
            )
        dropped = [f"ALTER TABLE {table} DROP COLUMN {quoted(c.name)}" for c in self.columns if c.dropped]
        return made + dropped + [statement.replace("{table}", table) for statement in self.after]

    def _partitions(self, schema: str, table: str) -> list[str]:
        """Partitions. Those by range leave the days from the 30th on without one."""
        if self.kind.startswith("HASH"):
            bounds = [f"WITH (MODULUS 3, REMAINDER {n})" for n in range(3)]
        elif self.kind.startswith("RANGE"):
            days = ("2026-01-01", "2026-01-11", "2026-01-21", "2026-01-30")
            bounds = [f"FROM ('{a}') TO ('{b}')" for a, b in pairwise(days)]
        elif self.kind.startswith("LIST"):
            bounds = ["IN ('sad', 'ok')", "DEFAULT"]
        else:
            return []
        inside, name = quoted(schema), self.name[:40]
        return [
            f"CREATE TABLE {inside}.{quoted(f'{name} p{n}')} PARTITION OF {table} "
            + (bound if bound.startswith("DEFAULT") else f"FOR VALUES {bound}")
            for n, bound in enumerate(bounds)
        ]


def random_table(random: Random, number: int, with_timescaledb: bool = True) -> RandomTable:
    """The table of this number."""
    names = random.sample(NAMES, 12) + [f"c{n}" for n in range(13)]
    columns = [random_column(random, name) for name in names[: random.randint(1, random.choice((3, 10, 24)))]]
    name = random.choice(("plain name", "Upper", "per%cent", 'quo"te', "select", "lower")) + f" {number}"
    table = RandomTable(name.replace(" ", random.choice((" ", "_"))), "plain", tuple(columns))
    way = random.random()
    if with_timescaledb and way < 0.45:
        table = _hypertable(random, table)
    elif way < 0.65:
        table = _partitioned(random, table)
    return _with_constraints(random, _with_key(random, table))


def _hypertable(random: Random, table: RandomTable) -> RandomTable:
    """A hypertable by time, seldom by an integer."""
    if random.random() < 0.1:
        number = Column("seq", "int8", "small", required=True, key=True)
        return replace(table, kind="hypertable", columns=(*table.columns, number), dimension="seq")
    name = random.choice(("ts", "When", "the time", "t%s"))
    column = Column(name, random.choice(TIME_TYPES), "", required=True, key=True)
    column = replace(column, pool=column.type)
    return replace(table, kind="hypertable", columns=_mixed(random, table, column), dimension=name, time=name)


def _mixed(random: Random, table: RandomTable, *more: Column) -> tuple[Column, ...]:
    columns = [*table.columns, *more]
    random.shuffle(columns)
    return tuple(columns)


def _partitioned(random: Random, table: RandomTable) -> RandomTable:
    way = random.choice(("RANGE", "LIST", "HASH"))
    type_ = {"RANGE": random.choice(TIME_TYPES), "LIST": f'{SCHEMA}."Mood"', "HASH": "int4"}[way]
    name = random.choice(("day", "Part of", "it's"))
    if any(column.name == name for column in table.columns):
        name = "day"
    column = Column(name, type_, POOL_OF_TYPE[type_], required=way != "LIST", key=True)
    time = name if way == "RANGE" else None
    kind = f"{way} ({quoted(name)})"
    return replace(table, kind=kind, columns=_mixed(random, table, column), dimension=name, time=time)


def _with_key(random: Random, table: RandomTable) -> RandomTable:
    """A primary key or unique constraint in two tables of three, on one to three columns."""
    if random.random() < 0.33:
        return table
    own = [
        Column(f"Key {n}", type_ := random.choice(KEY_TYPES), POOL_OF_TYPE[type_], key=True)
        for n in range(random.randint(1, 2))
    ]
    if random.random() < 0.15:
        own[0] = replace(own[0], type="text", pool="text", default="'eu'")
    if table.dimension and random.random() < 0.2:
        own = []
    names = tuple(column.name for column in own) + ((table.dimension,) if table.dimension else ())
    primary = random.random() < 0.7
    if primary or random.random() < 0.5:
        own = [replace(column, required=True) for column in own]
    columns = _mixed(random, table, *own)
    if primary and table.dimension:
        columns = tuple(replace(c, required=True) if c.name == table.dimension else c for c in columns)
    listed = ", ".join(map(quoted, random.sample(names, len(names))))
    word = "PRIMARY KEY" if primary else random.choice(("UNIQUE", "UNIQUE", "UNIQUE NULLS NOT DISTINCT"))
    return replace(table, columns=columns, key=names, constraints=(f"{word} ({listed})",))


def _with_constraints(random: Random, table: RandomTable) -> RandomTable:
    """CHECK constraints, a second unique index, a foreign key, a generated column, a trigger that rejects rows."""
    constraints, after, columns = list(table.constraints), list(table.after), list(table.columns)
    by_type = {column.type: quoted(column.name) for column in table.filled if not column.key}
    if "int4" in by_type and random.random() < 0.5:
        constraints.append(f"CHECK ({by_type['int4']} % 5 <> 0)")
    if "text" in by_type and random.random() < 0.5:
        constraints.append(f'CONSTRAINT "of text %s" CHECK (length({by_type["text"]}) < 1000)')
        columns.append(Column("lower %", "text", "text", computed=f"AS (lower({by_type['text']})) STORED"))
    if "numeric" in by_type and random.random() < 0.5:
        columns.append(Column("twice", "numeric", "numeric", computed=f"AS ({by_type['numeric']} * 2) STORED"))
    if table.key and random.random() < 0.15:
        columns.append(Column("second", "int4", "small"))
        with_dimension = ", ".join(['"second"', *([quoted(table.dimension)] if table.dimension else [])])
        after.append(f"CREATE UNIQUE INDEX ON {{table}} ({with_dimension})")
    if random.random() < 0.1:
        columns.append(Column("parent", f"int4 REFERENCES {SCHEMA}.parents", "small"))
    sent = [c.name for c in table.filled if c.type in ("text", "int4", "int8", "bool") and not (c.key or c.default)]
    if random.random() < 0.15 and sent:
        call = f"{SCHEMA}.reject({literal(sent[0])})"
        after.append(f"CREATE TRIGGER reject BEFORE INSERT ON {{table}} FOR EACH ROW EXECUTE FUNCTION {call}")
    if random.random() < 0.2:  # leaves a gap in the numbers of the columns
        columns.insert(random.randrange(len(columns)), Column("gone", "int4", "int4", dropped=True))
    return replace(table, columns=tuple(columns), constraints=tuple(constraints), after=tuple(after))
