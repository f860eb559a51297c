"""Merge rows into a table through the staging table: inserted rows, duplicates, conflicts and rejected rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from tasks.columns.decode import Fault
from tasks.columns.routing import TableRows
from tasks.table.isolate import RowOutcomes, insert_each
from tasks.table.stage import STAGING_TABLE, StagingTable
from tasks.table.time_slices import TimeSlice
from tasks.table.triggers import dry_run, has_row_triggers

# Returns how many rows were inserted, and the numbers of those whose key the table had. RETURNING gives the new keys:
# looking up every key in the table would cost every row. A row that repeats the key of an earlier staged row is not
# inserted either. ON CONFLICT names our key: a conflict with any other unique index is an error, not a duplicate.
_MERGE: LiteralString = """
    WITH put AS (INSERT INTO {table} ({listed}) OVERRIDING SYSTEM VALUE
                 SELECT {values} FROM {stage} ORDER BY {order}
                 ON CONFLICT ({key}) DO NOTHING RETURNING {key}, true AS "spillway put")
    SELECT (SELECT count(*) FROM put), coalesce(array_agg(s.number), '{{}}')
      FROM {numbered} AS s LEFT JOIN put ON {key_equals}
     WHERE put."spillway put" IS NULL AND {complete} {or_repeated}"""
_NUMBERED_KEYS: LiteralString = """
    (SELECT number, {key}, row_number() OVER (PARTITION BY {key} ORDER BY number) > 1 AS repeated FROM {stage})"""
# Without a key. A trigger may skip rows; which ones is unknown.
_APPEND: LiteralString = """
    INSERT INTO {table} ({listed}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {stage} ORDER BY {order}"""
# For staged rows whose key is in the table: how many there are, which of them differ and in which column first, and, if
# requested, which do not differ.
_COMPARE: LiteralString = """
    SELECT count(*), coalesce(array_agg(s.number) FILTER (WHERE compared.field IS NOT NULL), '{{}}'),
           coalesce(array_agg(compared.field) FILTER (WHERE compared.field IS NOT NULL), '{{}}'),
           coalesce(array_agg(s.number) FILTER (WHERE %(list_same)s AND compared.field IS NULL), '{{}}')
      FROM {stage} AS s JOIN {rows} ON true, LATERAL (SELECT {difference} AS field) AS compared
     WHERE {which}"""
_ALL: LiteralString = "{table} AS e"
# For a few rows: each is looked up. The server overestimates the temporary table and would otherwise read whole chunks
# (250 ms instead of 25 ms for 400 of 40,000 rows).
_EACH: LiteralString = "LATERAL (SELECT * FROM {table} AS e WHERE {same_key} OFFSET 0) AS e"
_NUMBERED = sql.SQL("s.number = ANY(%(numbers)s::bigint[])")
_LOOKUP_RATIO = 4  # rows are looked up one by one if they are fewer than a quarter of those staged
# A deferred constraint would fail at COMMIT, when the server no longer reports which row violates it.
CHECK_CONSTRAINTS_NOW = "SET CONSTRAINTS ALL IMMEDIATE"


_SKIPPED = "a trigger on the table skipped the row (it returned NULL), so the entry is not in the table"


class _RowsSkipped(Exception):
    """A trigger skipped some of the rows of one statement."""


class Merger:
    """Moves staged rows into the table and counts them.

    `existing`: rows whose key was in the table, or that a trigger skipped. `conflicts`: by row of the batch.
    """

    def __init__(self, connection: psycopg.Connection, table_rows: TableRows) -> None:
        self._connection = connection
        self._table_rows = table_rows
        self.stage = StagingTable(connection, table_rows)
        self.inserted = 0
        self.duplicates = 0
        self.existing = 0
        self.conflicts: dict[int, Fault] = {}

    def merge(self, start: int, stop: int) -> None:
        """Merge the rows from `start` to before `stop`. Among rows with one key the first becomes the row."""
        if start >= stop:
            return
        self.stage.fill(start, stop)
        if not len(self.stage):
            return
        triggers = has_row_triggers(self._connection, self.stage.columns.table)
        if triggers:  # RETURNING shows the row that the trigger made, so it cannot be matched with the staged one
            outcomes = insert_each(self._connection, self.stage)
        else:
            outcomes = self._insert_staged(repeated=start >= self._table_rows.encoded.unique)
        self.existing += len(outcomes.not_inserted)
        self.inserted += outcomes.inserted
        if outcomes.not_inserted and triggers:
            self._classify_with_triggers(outcomes.not_inserted)
        elif outcomes.not_inserted:
            found, different, _ = self._compare(outcomes.not_inserted, outcomes.inserted + len(outcomes.rejected))
            # Counted in the table, not deduced from what was not inserted: a row that is in neither would be a loss.
            self.duplicates += found - len(different)
            self._record_conflicts(different)
        if outcomes.rejected:
            self._classify_rejected(outcomes, triggers)

    def _insert_staged(self, repeated: bool) -> RowOutcomes:
        """All rows in one statement, or span by span if the server rejects one. `repeated`: rows may share a key."""
        columns = self.stage.columns
        shares = repeated or not self._table_rows.encoded.exact or bool(columns.key_defaults)
        repeated = bool(columns.key) and shares
        parts = {"table": columns.table.identifier, "listed": columns.listed, "values": columns.values}
        parts |= {"stage": STAGING_TABLE, "order": columns.order}
        try:
            with self._connection.transaction():
                inserted, not_inserted = self._merge(parts, repeated) if columns.key else self._append(parts)
                self._connection.execute(CHECK_CONSTRAINTS_NOW)
        except _RowsSkipped:
            return insert_each(self._connection, self.stage)
        except psycopg.Error as error:
            if error_scope(error) is ErrorScope.SERVER:
                raise
            return insert_each(self._connection, self.stage, cause=error)
        return RowOutcomes(inserted, not_inserted, {})

    def _merge(self, parts: Mapping[str, sql.Composable], repeated: bool) -> tuple[int, list[int]]:
        columns = self.stage.columns
        numbered = sql.SQL(_NUMBERED_KEYS).format(key=columns.staged_key, stage=STAGING_TABLE)
        merge = sql.SQL(_MERGE).format(
            **parts,
            key=columns.key_listed,
            key_equals=columns.staged_equals_put,
            complete=columns.key_is_complete,
            numbered=numbered if repeated else STAGING_TABLE,
            or_repeated=sql.SQL("OR s.repeated" if repeated else ""),
        )
        found = self._connection.execute(merge).fetchone()
        assert found is not None  # an aggregate has one row
        return found[0], found[1]

    def _append(self, parts: Mapping[str, sql.Composable]) -> tuple[int, list[int]]:
        done = self._connection.execute(sql.SQL(_APPEND).format(**parts)).rowcount
        if done != len(self.stage):
            raise _RowsSkipped
        return done, []

    def _compare(
        self, numbers: Sequence[int], others: int, list_same: bool = False
    ) -> tuple[int, dict[int, str], list[int]]:
        """Compare staged rows, given by their numbers, with the rows of the table that have the same keys.

        Returns how many have one, the first column in which it differs (by number), and the numbers of those that do
        not differ (only if `list_same`). `others`: how many rows are staged besides these. Without a key, none is
        found.
        """
        columns = self.stage.columns
        if not columns.key:
            return 0, {}, []
        encoded = self._table_rows.encoded
        same_key, table = columns.same_key(), columns.table.parameter_safe
        slices = self.stage.time_slices(TimeSlice(encoded.min_time, encoded.max_time, numbers))
        if len(numbers) * _LOOKUP_RATIO < len(self.stage):
            rows, which = sql.SQL(_EACH).format(table=table, same_key=same_key), sql.Composed([_NUMBERED])
        else:  # many: the server chooses how to join
            rows = sql.SQL(_ALL).format(table=table)
            which = sql.SQL(" AND ").join([same_key, _NUMBERED] if others or len(slices) > 1 else [same_key])
        query = sql.SQL(_COMPARE).format(
            stage=STAGING_TABLE, rows=rows, which=which, difference=columns.first_difference("s", "e")
        )
        found, different, same = 0, dict[int, str](), list[int]()
        for part in slices:
            with self._connection.transaction(force_rollback=True):  # releases the locks
                values = part.span | {"numbers": part.numbers, "list_same": list_same}
                row = self._connection.execute(query, values).fetchone()
            assert row is not None  # an aggregate has one row
            found += row[0]
            different |= zip(row[1], row[2], strict=True)
            same += row[3]
        return found, different, same

    def _classify_with_triggers(self, numbers: Sequence[int]) -> None:
        """Classify rows that were not inserted into a table with triggers: compare what the triggers make of them."""
        made = dry_run(self._connection, self.stage.columns, numbers)
        if made is None:  # the triggers cannot be run on a copy: compare the staged rows unchanged
            _, different, same = self._compare(numbers, 1, list_same=True)
            present = {*different, *same}
        else:
            different, present = dict(made.different), set(made.present)
        self.duplicates += len(present) - len(different)
        self._record_conflicts(different)
        for number in numbers:
            if number not in present:
                self.stage.reject(number, Fault(self.stage.entry(number), "", _SKIPPED))

    def _classify_rejected(self, outcomes: RowOutcomes, triggers: bool) -> None:
        """Rejected rows are duplicates or conflicts all the same if the table has their keys."""
        _, different, same = self._compare(list(outcomes.rejected), 1, list_same=True)
        if triggers:
            different = {}  # the trigger may have caused the difference: the server's message says more
        self.duplicates += len(same)
        self._record_conflicts(different)
        for number in outcomes.rejected.keys() - {*different, *same}:
            self.stage.reject(number, outcomes.rejected[number])

    def _record_conflicts(self, different: Mapping[int, str]) -> None:
        for number, column in different.items():
            reason = f"conflict: the table has this {_listed(self.stage.columns.key)} with another {column}"
            self.conflicts[self.stage.row(number)] = Fault(self.stage.entry(number), column, reason, conflict=True)


def _listed(names: Sequence[str]) -> str:
    """Such as `event_id and time`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
