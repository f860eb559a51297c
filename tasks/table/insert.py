"""Put the rows of a batch into `events`, each once: inserted, duplicates, conflicts and refused rows are counted
apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from infra.table import on_events
from tasks.columns.batch import Batch
from tasks.columns.decode import Fault
from tasks.table.isolate import RowOutcomes, insert_each
from tasks.table.stage import SAME_KEY, STAGING_TABLE, StagingTable, copy_events
from tasks.table.triggers import dry_run, has_row_triggers

# How many went in, and the numbers of the rows whose key was there. The keys that come back show it: looking each key
# up in the table would cost every row. A row that repeats the key of an earlier one of the stage did not go in. `ON
# CONFLICT` names our key: a conflict with any other unique index is an error, and no duplicate of ours.
_MERGE: LiteralString = """
    WITH put AS (INSERT INTO {events} ({listed}) OVERRIDING SYSTEM VALUE
                 SELECT {staged} FROM {stage} ORDER BY time, event_id, number
                 ON CONFLICT (event_id, time) DO NOTHING RETURNING event_id, time)
    SELECT (SELECT count(*) FROM put), coalesce(array_agg(s.number), '{{}}')
      FROM {numbered} AS s LEFT JOIN put USING (event_id, time) WHERE put.event_id IS NULL {or_repeated}"""
_NUMBERED_KEYS = sql.SQL("""(SELECT number, event_id, time,
                                    row_number() OVER (PARTITION BY event_id, time ORDER BY number) > 1 AS repeated
                               FROM {})""").format(STAGING_TABLE)
# Of staged rows, those whose key is in the table: how many, which of them differ, and in what column first; and, if
# asked, which are the same.
_COMPARE: LiteralString = """
    SELECT count(*), coalesce(array_agg(s.number) FILTER (WHERE compared.field IS NOT NULL), '{{}}'),
           coalesce(array_agg(compared.field) FILTER (WHERE compared.field IS NOT NULL), '{{}}'),
           coalesce(array_agg(s.number) FILTER (WHERE %(list_same)s AND compared.field IS NULL), '{{}}')
      FROM {stage} AS s JOIN {rows} ON true,
           LATERAL (SELECT CASE WHEN s.event_type <> e.event_type THEN 'event_type'
                                WHEN s.user_id <> e.user_id THEN 'user_id'
                                WHEN s.properties IS DISTINCT FROM e.properties THEN 'properties'
                                {own} END AS field) AS compared
     WHERE {which}"""
_ALL: LiteralString = "{events} AS e"
# A few: each is looked up, since the server thinks the temporary table has more of them and would read whole chunks
# (25 ms instead of 250 ms for 400 of 40,000).
_EACH: LiteralString = "LATERAL (SELECT * FROM {events} AS e WHERE {same_key} OFFSET 0) AS e"
_NUMBERED = sql.SQL("s.number = ANY(%(numbers)s::bigint[])")
_FEW = 4  # in so many is a look-up
_NOW = (
    "SET CONSTRAINTS ALL IMMEDIATE"  # what is deferred would fail at COMMIT, when nobody can say which row it is about
)

_SKIPPED = "a trigger on events skipped the row (it returned NULL), so the entry is not in the table"


@dataclass
class InsertRoute:
    """Which way the next batch of a stream goes: straight into `events`, or through a temporary table.

    Straight is faster, and thrown away as a whole at the first key that is there already: so the way that the
    last batch needed is the way for the next one.
    """

    merge: bool = False


@dataclass
class InsertResult:
    """Of the events of a batch: each is counted where it happens, so that the ledger's CHECK is one that can fail."""

    inserted: int = 0
    duplicates: int = 0
    faults: list[Fault] = field(default_factory=list)


def insert(connection: psycopg.Connection, batch: Batch, path: InsertRoute) -> InsertResult:
    """Insert what can be inserted of `batch`, in the caller's transaction. Raises `psycopg.Error`.

    Of events with one key the first in the stream that the server takes becomes the row, and counts as inserted even if
    a trigger changes it on its way. A later one with the same content is a duplicate; with other content it is a
    conflict.
    """
    outcome = InsertResult()
    merging = _Merging(connection, batch, outcome)
    if path.merge or not _insert_straight(connection, batch, outcome):
        merging.merge(0, batch.unique)
        path.merge = merging.met > 0
    merging.merge(batch.unique, len(batch.rows))
    refused = merging.stage.refused
    outcome.faults += [*refused.values(), *merging.conflicts.values()]
    for row, entry in batch.repeats:
        fault = refused.get(row) or merging.conflicts.get(row)
        if fault is None:
            outcome.duplicates += 1
        else:  # what the server refused once it would refuse again, and what was a conflict is one again
            outcome.faults.append(replace(fault, entry=entry))
    return outcome


def _insert_straight(connection: psycopg.Connection, batch: Batch, outcome: InsertResult) -> bool:
    """Copy the rows whose keys differ into `events`, all or none: False if one of them is there, refused or skipped."""
    if not batch.unique:
        return True
    try:
        with connection.transaction():
            inserted = copy_events(connection, batch, batch.rows[: batch.unique])
            if inserted != batch.unique:  # a trigger skipped some
                raise psycopg.Rollback
            connection.execute(_NOW)
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return False
    if inserted == batch.unique:
        outcome.inserted += inserted
    return inserted == batch.unique


class _Merging:
    """Moves what is staged into `events` and counts it. `met`: rows whose key was there. `conflicts`: by row."""

    def __init__(self, connection: psycopg.Connection, batch: Batch, outcome: InsertResult) -> None:
        self._connection = connection
        self._batch = batch
        self._outcome = outcome
        self.stage = StagingTable(connection, batch)
        self.met = 0
        self.conflicts: dict[int, Fault] = {}

    def merge(self, start: int, stop: int) -> None:
        """Merge the rows from `start` to before `stop`: of one key the first is the one that stays."""
        if start >= stop:
            return
        self.stage.fill(start, stop)
        if not len(self.stage):
            return
        triggers = has_row_triggers(self._connection)
        if triggers:  # what comes back does not tell which row it came from
            done = insert_each(self._connection, self.stage)
        else:
            done = self._insert_staged(repeated=start >= self._batch.unique)
        self.met += len(done.left)
        self._outcome.inserted += done.inserted
        if done.left and triggers:
            self._judge(done.left)
        elif done.left:
            found, different, _ = self._compare(done.left, done.inserted + len(done.refused))
            # Seen in the table, not concluded from what did not go in: a row that is neither would be a lost one.
            self._outcome.duplicates += found - len(different)
            self._note(different)
        if done.refused:
            self._refuse(done, triggers)

    def _insert_staged(self, repeated: bool) -> RowOutcomes:
        """All in one statement; one span after the other if a row is refused."""
        merge = on_events(
            _MERGE,
            listed=self.stage.columns.listed,
            staged=self.stage.columns.staged,
            stage=STAGING_TABLE,
            numbered=_NUMBERED_KEYS if repeated else STAGING_TABLE,
            or_repeated=sql.SQL("OR s.repeated" if repeated else ""),
        )
        try:
            with self._connection.transaction():
                found = self._connection.execute(merge).fetchone()
                assert found is not None  # an aggregate has one row
                self._connection.execute(_NOW)
        except psycopg.Error as error:
            if error_scope(error) is ErrorScope.SERVER:
                raise
            return insert_each(self._connection, self.stage, cause=error)
        return RowOutcomes(*found)

    def _compare(
        self, numbers: Sequence[int], others: int, list_same: bool = False
    ) -> tuple[int, dict[int, str], list[int]]:
        """Compare staged rows with those that have their keys: how many have one, which differ and in what column, and
        which are the same. `others`: how many rows are staged besides them."""
        times = {"first": self._batch.min_time, "last": self._batch.max_time, "list_same": list_same}
        if len(numbers) * _FEW < len(self.stage):
            rows, which = on_events(_EACH, same_key=SAME_KEY), sql.Composed([_NUMBERED])
        else:  # many: the server chooses how to join
            rows = on_events(_ALL)
            which = sql.SQL(" AND ").join([SAME_KEY, _NUMBERED] if others else [SAME_KEY])
        own = self.stage.columns.own_differs("s", "e")
        query = sql.SQL(_COMPARE).format(stage=STAGING_TABLE, rows=rows, which=which, own=own)
        row = self._connection.execute(query, times | {"numbers": numbers}).fetchone()
        assert row is not None  # an aggregate has one row
        found, different, columns, same = row
        return found, dict(zip(different, columns, strict=True)), same

    def _judge(self, numbers: Sequence[int]) -> None:
        """Rows that did not go in, of a table with triggers: compared with the table as the triggers make them."""
        made = dry_run(self._connection, self.stage.columns, numbers)
        if made is None:  # the triggers cannot be asked: as they came
            _, different, same = self._compare(numbers, 1, list_same=True)
            present = {*different, *same}
        else:
            different, present = made.different, set(made.present)
        self._outcome.duplicates += len(present) - len(different)
        self._note(different)
        for number in numbers:
            if number not in present:
                self.stage.refused[self.stage.row(number)] = Fault(self.stage.entry(number), "", _SKIPPED)

    def _refuse(self, done: RowOutcomes, triggers: bool) -> None:
        """Refused rows are duplicates or conflicts all the same if the table has their keys."""
        _, different, same = self._compare(list(done.refused), 1, list_same=True)
        if triggers:
            different = {}  # the row may differ because of the trigger: the server's words say more
        self._outcome.duplicates += len(same)
        self._note(different)
        for number in done.refused.keys() - {*different, *same}:
            self.stage.refused[self.stage.row(number)] = done.refused[number]

    def _note(self, different: Mapping[int, str]) -> None:
        for number, column in different.items():
            reason = f"conflict: the table has this event_id and time with another {column}"
            self.conflicts[self.stage.row(number)] = Fault(self.stage.entry(number), column, reason, conflict=True)
