"""Insert the rows of a batch into its table, each once.

Inserted rows, duplicates, conflicts and rejected rows are counted separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import psycopg

from infra.errors.classify import error_scope
from infra.errors.sqlstates import ErrorScope
from tasks.columns.decode import Fault
from tasks.columns.routing import TableRows
from tasks.table.direct_compression import switch_on
from tasks.table.merge import CHECK_CONSTRAINTS_NOW, Merger
from tasks.table.stage import copy_rows


class InsertRoute(Enum):
    """How a batch gets into its table.

    STRAIGHT: one COPY into the table itself. Faster, but undone as a whole at the first key that the table has.
    MERGE: a COPY into the staging table, and from there with ON CONFLICT.
    """

    STRAIGHT = "straight"
    MERGE = "merge"


@dataclass(frozen=True)
class InsertResult:
    """What happened to the events of a batch.

    Every event is counted when its outcome is decided, not by subtraction, so that the ledger's CHECK can fail.
    `faults`: the conflicts and the rows that the server rejected. `next_route`: the best route for the batch that
    follows: MERGE as long as batches contain keys that the table has. `by_table`: how many rows each table got.
    `compressed`: how many of the inserted rows the server compressed while they were copied.
    """

    inserted: int
    duplicates: int
    faults: tuple[Fault, ...]
    next_route: InsertRoute
    by_table: Mapping[str, int] = field(default_factory=dict)
    compressed: int = 0


def insert(connection: psycopg.Connection, table_rows: TableRows, route: InsertRoute) -> InsertResult:
    """Insert all insertable rows of one table, in the caller's transaction. Raises `psycopg.Error`.

    Among events with the same key, the first one in the stream that the server accepts becomes the row. It counts as
    inserted even if a trigger changes it on the way. Later ones with the same content are duplicates; those with
    different content are conflicts.
    """
    merger = Merger(connection, table_rows)
    straight = compressed = 0
    next_route = InsertRoute.STRAIGHT
    if route is InsertRoute.STRAIGHT and not table_rows.encoded.defaulted:
        straight, compresses = _insert_straight(connection, table_rows)
        compressed = straight if compresses else 0
    if not straight:
        merger.merge(0, table_rows.encoded.unique)
        if merger.existing:
            next_route = InsertRoute.MERGE
    merger.merge(table_rows.encoded.unique, len(table_rows.encoded.rows))
    rejected, conflicts = merger.stage.rejected, merger.conflicts
    # An exact repeat of a row has the same outcome as that row.
    repeated = [(rejected.get(row) or conflicts.get(row), entry) for row, entry in table_rows.encoded.repeats]
    of_repeats = (replace(fault, entry=entry) for fault, entry in repeated if fault is not None)
    return InsertResult(
        inserted=straight + merger.inserted,
        duplicates=merger.duplicates + sum(fault is None for fault, _ in repeated),
        faults=(*rejected.values(), *conflicts.values(), *of_repeats),
        next_route=next_route,
        compressed=compressed,
    )


def insert_all(connection: psycopg.Connection, tables: Sequence[TableRows], route: InsertRoute) -> InsertResult:
    """`insert` for the rows of each table of a batch; their sum."""
    results = [insert(connection, rows, route) for rows in tables]
    merges = any(result.next_route is InsertRoute.MERGE for result in results)
    return InsertResult(
        inserted=sum(result.inserted for result in results),
        duplicates=sum(result.duplicates for result in results),
        faults=tuple(fault for result in results for fault in result.faults),
        next_route=InsertRoute.MERGE if merges else InsertRoute.STRAIGHT,
        by_table={rows.layout.table.regclass: result.inserted for rows, result in zip(tables, results, strict=True)},
        compressed=sum(result.compressed for result in results),
    )


def _insert_straight(connection: psycopg.Connection, table_rows: TableRows) -> tuple[int, bool]:
    """COPY the rows with distinct keys into the table, all or none.

    Returns how many, 0 if one is known or rejected; and whether the server compressed them.
    """
    if not table_rows.encoded.unique:
        return 0, False
    try:
        with connection.transaction():
            compresses = switch_on(connection, table_rows)
            inserted = copy_rows(connection, table_rows, table_rows.encoded.rows[: table_rows.encoded.unique])
            if inserted != table_rows.encoded.unique:  # a trigger skipped some
                raise psycopg.Rollback
            connection.execute(CHECK_CONSTRAINTS_NOW)
    except psycopg.Error as error:
        if error_scope(error) is ErrorScope.SERVER:
            raise
        return 0, False
    return (inserted, compresses) if inserted == table_rows.encoded.unique else (0, False)
