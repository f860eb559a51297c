"""Put the rows of a batch into `events`, each once: told apart are inserted, duplicates, conflicts and refused ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.table import on_events
from tasks.columns.decode import Fault
from tasks.read import Batch
from tasks.stage import COLUMN_LIST, IN_SPAN, STAGE, Span, Stage, blames_a_value, copy_events, copy_rows

# How many went in, and the places of those whose key was there: told from the keys that came back, not asked of
# the table, which would cost every row a look-up.
_MERGE: LiteralString = """
    WITH put AS (INSERT INTO {events} ({c}) SELECT {c} FROM {stage} WHERE {span} ORDER BY time, event_id, place
                 ON CONFLICT DO NOTHING RETURNING event_id, time)
    SELECT (SELECT count(*) FROM put), coalesce(array_agg(s.place), '{{}}')
      FROM {stage} AS s LEFT JOIN put USING (event_id, time) WHERE put.event_id IS NULL AND {span}
    """
# Of rows of the stage, how many are in the table, and of those the ones that differ: their places, and the first column
# that is another. The span of times, as constants, keeps it from looking into every chunk there is.
_SAME_KEY = sql.SQL("""e.event_id = s.event_id AND e.time = s.time
       AND e.time >= 'epoch'::timestamptz + %(first)s * interval '1 microsecond'
       AND e.time <= 'epoch'::timestamptz + %(last)s * interval '1 microsecond'""")
_COMPARE: LiteralString = """
    SELECT count(*), coalesce(array_agg(s.place) FILTER (WHERE differs), '{{}}'),
           coalesce(array_agg(CASE WHEN s.event_type <> e.event_type THEN 'event_type'
                                   WHEN s.user_id <> e.user_id THEN 'user_id' ELSE 'properties' END)
                    FILTER (WHERE differs), '{{}}')
      FROM {stage} AS s JOIN {rows} ON true,
           LATERAL (SELECT s.event_type <> e.event_type OR s.user_id <> e.user_id
                           OR s.properties IS DISTINCT FROM e.properties AS differs) AS compared
     WHERE {which} AND {span}"""
# All of them: the server chooses how to join.
_ALL: LiteralString = "{events} AS e"
# A few: each is looked up, since the server thinks the temporary table has more of them and would read whole chunks
# (25 ms instead of 250 ms for 400 of 40,000).
_EACH: LiteralString = "LATERAL (SELECT * FROM {events} AS e WHERE {same_key} OFFSET 0) AS e"
_PLACES = sql.SQL("s.place = ANY(%(places)s::bigint[])")
_FEW = 4  # in so many is a look-up


@dataclass
class Path:
    """Which way the next batch of a stream goes: straight into `events`, or through a temporary table.

    Straight is faster, and thrown away as a whole at the first key that is there already: so the way that the
    last batch needed is the way for the next one.
    """

    merge: bool = False


@dataclass
class Outcome:
    """Of the events of a batch: each is counted where it happens, so that the ledger's CHECK is one that can fail."""

    inserted: int = 0
    duplicates: int = 0
    faults: list[Fault] = field(default_factory=list)


def insert(connection: psycopg.Connection, batch: Batch, path: Path) -> Outcome:
    """Insert what can be inserted of `batch`, in the caller's transaction. Raises `psycopg.Error`.

    Of events with one key the first in the stream that the server takes becomes the row. A later one with the same
    content is a duplicate; with other content it is a conflict.
    """
    outcome = Outcome()
    stage = Stage(connection, batch)
    merging = _Merging(connection, batch, stage, outcome)
    if path.merge or not _insert_straight(connection, batch, outcome):
        stage.run(0, batch.unique, merging.merge)
        path.merge = merging.met > 0
    stage.run(batch.unique, len(batch.rows), merging.merge)
    outcome.faults += [*stage.refused.values(), *merging.conflicts.values()]
    for row, entry in batch.repeats:
        fault = stage.refused.get(row) or merging.conflicts.get(row)
        if fault is None:
            outcome.duplicates += 1
        else:  # what the server refused once it would refuse again, and what was a conflict is one again
            outcome.faults.append(replace(fault, entry=entry))
    return outcome


def _insert_straight(connection: psycopg.Connection, batch: Batch, outcome: Outcome) -> bool:
    """Copy the rows whose keys differ into `events`, all or none: False where one of them is there, or is refused."""
    if not batch.unique:
        return True
    try:
        with connection.transaction():
            outcome.inserted += copy_rows(connection, copy_events(), batch.rows[: batch.unique])
    except psycopg.Error as error:
        if not (isinstance(error, psycopg.errors.UniqueViolation) or blames_a_value(error)):
            raise
        return False
    return True


def _compare_all() -> sql.Composed:
    rows = on_events(_ALL)
    return sql.SQL(_COMPARE).format(stage=STAGE, rows=rows, which=_SAME_KEY, span=IN_SPAN)


def _compare_few() -> sql.Composed:
    rows = on_events(_EACH, same_key=_SAME_KEY)
    return sql.SQL(_COMPARE).format(stage=STAGE, rows=rows, which=_PLACES, span=IN_SPAN)


class _Merging:
    """Moves what is staged into `events` and counts it. `met`: rows whose key was there. `conflicts`: by row."""

    def __init__(self, connection: psycopg.Connection, batch: Batch, stage: Stage, outcome: Outcome) -> None:
        self._connection = connection
        self._batch = batch
        self._stage = stage
        self._outcome = outcome
        self.met = 0
        self.conflicts: dict[int, Fault] = {}
        self._merge = on_events(_MERGE, c=COLUMN_LIST, stage=STAGE, span=IN_SPAN)

    def merge(self, span: Span) -> None:
        """Merge a span, in order: of one key the first is the one that stays."""
        row = self._connection.execute(self._merge, span.parameters).fetchone()
        assert row is not None  # an aggregate has one row
        inserted, met = row
        different: list[int] = []
        columns: list[str] = []
        duplicates = 0
        if inserted < span.count:
            # Seen in the table, not concluded from what did not go in: a row that is neither would be a lost one.
            # Where keys repeat each other, all are looked for: which of them went in, the table says.
            few = len(met) * _FEW < span.count == inserted + len(met)
            times = {"first": self._batch.min_time, "last": self._batch.max_time}
            query = _compare_few() if few else _compare_all()
            found = self._connection.execute(query, {**span.parameters, **times, "places": met}).fetchone()
            assert found is not None  # an aggregate has one row
            present, different, columns = found
            duplicates = present - len(different) - (0 if few else inserted)
        self.met += len(met)
        self._outcome.inserted += inserted
        self._outcome.duplicates += duplicates
        for place, column in zip(different, columns, strict=True):
            reason = f"conflict: the table has this event_id and time with another {column}"
            at = self._stage.row(place)
            self.conflicts[at] = Fault(int(self._batch.row_entry[at]), column, reason, conflict=True)
