"""Compare a table, the quarantine and the ledger with the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import psycopg
from psycopg import sql

from tests.any_table.columns import Column
from tests.any_table.oracle import Prediction, TableOracle
from tests.any_table.tables import RandomTable
from tests.fuzz.prediction import Fate
from tests.support.oracle import ledger_sums

_MAX_DIFFERENCES = 8  # of a table; the first ones are the most useful
_LENGTH = 400  # characters of a row or field
_REFUSED = {Fate.REFUSED: "refused", Fate.CONFLICT: "conflict"}


@dataclass
class PredictedEntries:
    """The entries of one stream, by id, with what the oracle predicts."""

    oracle: TableOracle
    entries: dict[str, tuple[Sequence[bytes], Prediction]] = field(default_factory=dict)

    def predict(self, entry_id: str, fields: Sequence[bytes]) -> None:
        self.entries[entry_id] = (fields, self.oracle.predict(fields))

    @property
    def sums(self) -> tuple[int, int, int, int]:
        """The ledger's sums of read, inserted, duplicates and quarantined."""
        n = self.oracle.counts
        return n.total(), n[Fate.ROW], n[Fate.DUPLICATE], n[Fate.REFUSED] + n[Fate.CONFLICT]


def contents(connection: psycopg.Connection, table: str, columns: RandomTable) -> Counter[str]:
    """The rows as text. A value that a default gave differs each time and is replaced by a mark."""
    shown = []
    for column in columns.columns:
        if column.dropped:
            continue
        name = sql.Identifier(column.name).as_string(None)
        if column.computed and (column.computed == "AS IDENTITY" or _is_of_default(column, columns)):
            shown.append(f"{name} IS NULL")
        elif column.masked:
            shown.append(f"CASE WHEN {column.masked.format(c=name)} THEN 'default' ELSE {name}::text END")
        else:
            shown.append(name)
    statement = f"COPY (SELECT {', '.join(shown)} FROM {table}) TO STDOUT"
    with connection.transaction(), connection.cursor() as cursor:
        connection.execute("SET LOCAL TimeZone = 'UTC'")
        with cursor.copy(statement.encode()) as copy:
            return Counter(b"".join(copy).decode().split("\n")[:-1])


def _is_of_default(column: Column, table: RandomTable) -> bool:
    """Whether it is computed from a column whose default differs each time."""
    names = [other.name for other in table.columns if other.masked]
    return any(sql.Identifier(name).as_string(None) in str(column.computed) for name in names)


def differences(
    connection: psycopg.Connection, stream: str, predicted: PredictedEntries, tables: tuple[str, str], of: RandomTable
) -> list[str]:
    """The differences between the tested table (the first one) and the oracle's; empty if there are none."""
    found = [
        *_of_quarantine(connection, stream, predicted),
        *of_rows(connection, tables, of),
    ]
    if (sums := ledger_sums(connection, stream)) != predicted.sums:
        found.append(f"the ledger says {sums}, expected {predicted.sums}")
    return found


def of_rows(connection: psycopg.Connection, tables: tuple[str, str], of: RandomTable) -> Iterator[str]:
    """The differences between the rows of the tested table and the oracle's."""
    found, expected = (contents(connection, table, of) for table in tables)
    for row, count in islice((found - expected).items(), _MAX_DIFFERENCES):
        yield f"{count} times too often: {row:.{_LENGTH}}"
    for row, count in islice((expected - found).items(), _MAX_DIFFERENCES):
        yield f"{count} times missing: {row:.{_LENGTH}}"


def _of_quarantine(connection: psycopg.Connection, stream: str, predicted: PredictedEntries) -> Iterator[str]:
    query = """
        SELECT q.entry_id, q.fields, q.kind, q.reason, q.field
          FROM spillway.quarantine q JOIN spillway.streams s ON s.id = q.stream WHERE s.name = %s"""
    kept: dict[str, tuple[list[bytes], str, str, str]] = {
        entry_id: (fields, kind, reason, field)
        for entry_id, fields, kind, reason, field in connection.execute(query, [stream])
    }
    yield from islice(_wrong_entries(predicted.entries, kept), _MAX_DIFFERENCES)
    for entry_id in kept.keys() - predicted.entries.keys():
        yield f"{entry_id} is in the quarantine and was never added"


def _wrong_entries(
    entries: Mapping[str, tuple[Sequence[bytes], Prediction]], kept: Mapping[str, tuple[list[bytes], str, str, str]]
) -> Iterator[str]:
    for entry_id, (fields, prediction) in entries.items():
        found = kept.get(entry_id)
        kind = found[1] if found else None
        if kind != _REFUSED.get(prediction.fate) and not (prediction.broken_rule and kind == "conflict"):
            reason = found[2] if found else "it is not in the quarantine"
            columns = f" {sorted(prediction.columns)}" if prediction.columns else ""
            yield f"{entry_id}: expected {prediction.fate.value}{columns}; {reason}; {_as_text(fields)}"
        elif found and list(found[0]) != list(fields):
            yield f"{entry_id}: its raw fields are {_as_text(found[0])}, expected {_as_text(fields)}"
        elif found and prediction.columns and not _names_one(prediction.columns, found[3], found[2]):
            wrong = f"found {found[3]!r}: {found[2]}; {_as_text(fields)}"
            yield f"{entry_id}: expected one of {sorted(prediction.columns)}, {wrong}"


def _names_one(columns: frozenset[str], field: str, reason: str) -> bool:
    """Whether a quarantined entry names one of these columns or keys: as its field, or for a value without a text in
    the reason, as a path. For bytes that no database of this encoding can hold, the server reports no column, and a
    trigger may reject a row before a missing value does."""
    if field == "data":
        return "codec can't decode" in reason or any(f"`$.{name}`" in reason for name in columns)
    return field in columns or (not field and reason.endswith(("[22021]", "[P0001]")))


def _as_text(fields: Sequence[bytes]) -> str:
    return ", ".join(ascii(part[:_LENGTH]) + ("…" if len(part) > _LENGTH else "") for part in fields[:60])
