"""Predict what becomes of every entry of a stream into any table, by asking a server for each value alone.

This imports nothing of Spillway. The entries go one by one, in their order, as plain INSERT statements with text
literals into a table of the same definition; what the server says is the prediction. Only what Spillway decides by its
own rules (times, dates, UUIDs, arrays in JSON) is decided here as well, from docs/reference/mapping.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.any_table.literals import Literals, Text, json_text
from tests.any_table.sources import Entry, Source, entry_of
from tests.fuzz.jsonb import Refused
from tests.fuzz.prediction import Fate

# The columns of a table, with the name of the type below all domains, and whether that type has an operator `=`.
_COLUMNS: LiteralString = """
    WITH RECURSIVE chain AS (
        SELECT a.attnum, a.atttypid AS oid, false AS required FROM pg_attribute a
         WHERE a.attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT chain.attnum, t.typbasetype, required OR typnotnull
          FROM chain JOIN pg_type t ON t.oid = chain.oid WHERE t.typtype = 'd')
    SELECT a.attname, t.typname, format_type(a.atttypid, a.atttypmod),
           a.attnotnull OR bool_or(chain.required) OVER (PARTITION BY a.attnum),
           a.atthasdef AND a.attgenerated = '' OR a.attidentity = 'd' OR EXISTS (
               SELECT FROM pg_type own WHERE own.oid = a.atttypid AND own.typdefault IS NOT NULL),
           a.attgenerated <> '' OR a.attidentity = 'a',
           EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
                    WHERE m.amname IN ('btree', 'hash') AND o.opcdefault AND o.opcintype IN (
                        t.oid,
                        CASE t.typcategory WHEN 'A' THEN t.typelem END,
                        CASE t.typtype WHEN 'e' THEN 'anyenum'::regtype WHEN 'r' THEN 'anyrange'::regtype END,
                        CASE WHEN t.typname IN ('varchar', '_varchar') THEN 'text'::regtype
                             WHEN t.typname = 'cidr' THEN 'inet'::regtype END)),
           t.typtype = 'd'
      FROM pg_attribute a JOIN chain ON chain.attnum = a.attnum JOIN pg_type t ON t.oid = chain.oid
     WHERE a.attrelid = %(table)s::regclass
     ORDER BY a.attnum"""

# As in a session of Spillway, whatever the server's configuration says.
_SESSION = "SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres'"
_FAILS = """
    CREATE OR REPLACE FUNCTION pg_temp.fails(statement text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE statement;
        RETURN false;
    EXCEPTION WHEN OTHERS THEN
        RETURN true;
    END $$"""
# Beginnings of SQLSTATEs that are about a row: data, integrity, PL/pgSQL, limits, the syntax of a value (tsvector).
_ABOUT_THE_ROW = ("22", "23", "P0", "54", "0A", "42601")


@dataclass(frozen=True)
class CatalogColumn:
    """A column of the catalog. `base`: the name of the type below all domains. `comparable`: by its values, not by
    their texts."""

    name: str
    base: str
    type: str
    required: bool
    has_default: bool
    computed: bool
    comparable: bool


def catalog_columns(connection: psycopg.Connection, table: str) -> list[CatalogColumn]:
    """The columns of a table, in order. `table`: quoted."""
    rows = connection.execute(_COLUMNS, {"table": table}).fetchall()
    required = {name for name, _, _, required, *_ in rows if required}
    return [
        CatalogColumn(name, base, type_, name in required, has_default, computed, comparable)
        for name, base, type_, _, has_default, computed, comparable, is_domain in rows
        if not is_domain
    ]


@dataclass(frozen=True)
class Prediction:
    """What becomes of an entry. `columns`: of a refused entry, those whose value alone is refused, and their keys.

    `broken_rule`: a constraint, a trigger or a missing partition refuses the row. If a row with its key is in the table
    when the batch is done, the quarantine may call it a conflict.
    """

    fate: Fate
    columns: frozenset[str] = frozenset()
    broken_rule: bool = False


@dataclass(frozen=True)
class TwinTables:
    """The names, quoted, of the oracle's table, which has the same definition as the tested one, and of one with its
    columns only."""

    twin: str
    probe: str


@dataclass
class TableOracle:
    """Predicts the entries of one stream in their order.

    `key`: the columns that detect duplicates; empty without a key. `time`: the column that must lie between `earliest`
    and `latest`, in microseconds since 1970. `sources`: of the columns that the mapping names.
    """

    connection: psycopg.Connection
    tables: TwinTables
    key: tuple[str, ...] = ()
    time: str | None = None
    earliest: int = -(2**62)
    latest: int = 2**62
    sources: Mapping[str, Source] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    layout: str = "json"
    counts: Counter[Fate] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        found = catalog_columns(self.connection, self.tables.twin)
        self._columns = {column.name: column for column in found if not column.computed}
        self._literals = Literals(self.connection)
        self.connection.execute(_SESSION)
        self.connection.execute(_FAILS)
        self._alone = {name: f"alone_{id(self)}_{n}" for n, name in enumerate(self._columns)}
        for name, table in self._alone.items():
            self.connection.execute(f"CREATE TEMP TABLE {table} (value {self._columns[name].type})".encode())

    def close(self) -> None:
        """Drop the temporary tables."""
        for table in self._alone.values():
            self.connection.execute(f"DROP TABLE {table}".encode())

    def predict(self, fields: Sequence[bytes]) -> Prediction:
        """What becomes of the next entry. If it becomes a row, the oracle's table has that row."""
        prediction = self._predict(fields)
        sources = [self.sources[name] for name in prediction.columns if name in self.sources]
        keys = [key for source in sources for key in source.keys]
        prediction = replace(prediction, columns=prediction.columns.union(keys))
        self.counts[prediction.fate] += 1
        return prediction

    def _predict(self, fields: Sequence[bytes]) -> Prediction:
        try:
            entry = entry_of(fields, self.layout)
        except Refused:
            return Prediction(Fate.REFUSED)
        texts: dict[str, Text] = {}
        wrong: set[str] = set()
        for column in self._columns.values():
            try:
                texts[column.name] = self._text(entry, column)
            except Refused:
                wrong.add(column.name)
        if wrong:
            wrong |= self._refused_alone(texts)
            if self._has_no_partition(texts):  # found before NOT NULL is checked
                wrong.add("")
            return Prediction(Fate.REFUSED, frozenset(wrong))
        return self._insert(texts)

    def _text(self, entry: Entry, column: CatalogColumn) -> Text:
        """The text of the server's literal; None: DEFAULT. Raises `Refused`."""
        source = self.sources.get(column.name) or Source((column.name,))
        found = entry.value(source, source.nulls if source.nulls is not None else self.nulls)
        if found is None:
            if column.required and not column.has_default:
                raise Refused("missing")
            return None
        text = json_text(found, column.base)
        if text is None:
            if column.required and not column.has_default:
                raise Refused("missing")
            return None
        return self._literals.judged(text, column.base, self._window(column.name))

    def _window(self, name: str) -> tuple[int, int] | None:
        return (self.earliest, self.latest) if name == self.time else None

    def _insert(self, texts: Mapping[str, Text]) -> Prediction:
        try:
            self.connection.execute(self._statement(self.tables.twin, texts).encode())
        except psycopg.errors.UniqueViolation:
            return self._compare(texts)
        except psycopg.Error as error:
            if not (error.sqlstate or "").startswith(_ABOUT_THE_ROW):
                raise
            alone = self._refused_alone(texts)
            return Prediction(Fate.REFUSED, alone, bool(self.key) and not alone)
        return Prediction(Fate.ROW)

    def _has_no_partition(self, texts: Mapping[str, Text]) -> bool:
        """Whether the table has no partition for a row of these values."""
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(self._statement(self.tables.twin, texts).encode())
        except psycopg.errors.CheckViolation as error:
            return error.diag.constraint_name is None
        except psycopg.Error:
            return False
        return False

    def _statement(self, table: str, texts: Mapping[str, Text]) -> str:
        values = [sql.DEFAULT if text is None else sql.Literal(text) for text in texts.values()]
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.SQL(table), sql.SQL(", ").join(map(sql.Identifier, texts)), sql.SQL(", ").join(values)
        )
        return statement.as_string(self.connection)

    def _refused_alone(self, texts: Mapping[str, Text]) -> frozenset[str]:
        """The columns whose value no table accepts."""
        statements = {
            name: sql.SQL("INSERT INTO {} VALUES ({})")
            .format(sql.SQL(self._alone[name]), sql.Literal(text))
            .as_string(self.connection)
            for name, text in texts.items()
            if text is not None
        }
        query = "SELECT pg_temp.fails(s) FROM unnest(%s::text[]) WITH ORDINALITY AS u (s, n) ORDER BY n"
        failed = self.connection.execute(query, [list(statements.values())]).fetchall()
        return frozenset(name for name, (fails,) in zip(statements, failed, strict=True) if fails)

    def _compare(self, texts: Mapping[str, Text]) -> Prediction:
        """A duplicate or conflict, if a row has the same key; else another unique index refuses the entry."""
        if not self.key:
            return Prediction(Fate.REFUSED)
        prepare = f"DELETE FROM {self.tables.probe}; {self._statement(self.tables.probe, texts)}"
        same = [self._same(name) for name, text in texts.items() if text is not None and name not in self.key]
        same += [self._same(n) for n in texts if texts[n] is None and not self._columns[n].has_default]
        keys = sql.SQL(" AND ").join(self._equal(name) for name in self.key)
        both = sql.SQL(" AND ").join(same) if same else sql.SQL("true")
        query = sql.SQL("SELECT {} FROM {} AS a JOIN {} AS b ON {}").format(
            both, sql.SQL(self.tables.twin), sql.SQL(self.tables.probe), keys
        )
        cursor = self.connection.execute(f"{prepare}; {query.as_string(self.connection)}".encode())
        while cursor.nextset():
            pass
        row: Any = cursor.fetchone()
        if row is None:
            return Prediction(Fate.REFUSED)
        return Prediction(Fate.DUPLICATE if row[0] else Fate.CONFLICT)

    def _equal(self, name: str) -> sql.Composable:
        return sql.SQL("a.{0} IS NOT DISTINCT FROM b.{0}").format(sql.Identifier(name))

    def _same(self, name: str) -> sql.Composable:
        if self._columns[name].comparable:
            return self._equal(name)
        return sql.SQL("a.{0}::text IS NOT DISTINCT FROM b.{0}::text").format(sql.Identifier(name))
