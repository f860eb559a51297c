"""Compare the tables with what was produced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from tests.faults.campaign.produce import Produced, expected_rows
from tests.support.oracle import ledger_is_whole, ledger_sums, table_rows


@dataclass(frozen=True)
class Verdict:
    """The differences. `lost`: entries that are nowhere. `doubled`: entries stored or counted more than once.

    `different`: rows that were changed or never produced. `unbalanced`: sums of the ledger that do not balance.
    """

    lost: int = 0
    doubled: int = 0
    different: int = 0
    unbalanced: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        return self == Verdict()


@dataclass
class VerdictCounts:
    """The counts of a verdict while it is made."""

    lost: int = 0
    doubled: int = 0
    different: int = 0
    unbalanced: list[str] = field(default_factory=list)


CompareRows = Callable[[psycopg.Connection, Sequence[Produced], VerdictCounts], int]


def judge(
    connection: psycopg.Connection, produced: Sequence[Produced], compare_rows: CompareRows | None = None
) -> Verdict:
    """Compare every row, every quarantined entry and every sum with what was produced.

    Everything must have been drained, and the tables must hold nothing else. `compare_rows`: compares the tables and
    returns how many rows they must have; None compares `events`.
    """
    counts = VerdictCounts()
    rows = (compare_rows or _compare_events)(connection, produced, counts)
    _compare_quarantine(connection, produced, counts)
    inserted = sum(_compare_ledger(connection, one, counts) for one in produced)
    # The ledger does not count redriven entries.
    rows -= sum(len(one.fixed) for one in produced)
    if inserted != rows:
        counts.unbalanced.append(f"{inserted} inserted by the ledger, {rows} by the oracle")
    _compare_settlements(connection, produced, counts)
    return Verdict(counts.lost, counts.doubled, counts.different, tuple(counts.unbalanced))


def _compare_events(connection: psycopg.Connection, produced: Sequence[Produced], counts: VerdictCounts) -> int:
    expected, found = expected_rows(produced), table_rows(connection)
    counts.lost += len(expected.keys() - found.keys())
    counts.different += len(found.keys() - expected.keys())
    counts.different += sum(found[key] != expected[key] for key in expected.keys() & found.keys())
    row = connection.execute("SELECT count(*)::int FROM events").fetchone()
    assert row is not None  # an aggregate
    counts.doubled += row[0] - len(found)
    return len(expected)


def _compare_quarantine(connection: psycopg.Connection, produced: Sequence[Produced], counts: VerdictCounts) -> None:
    expected = {
        (one.stream, entry_id): [part for pair in one.entries[entry_id].items() for part in pair]
        for one in produced
        for entry_id in one.bad
    }
    query = """
        SELECT name, entry_id, fields, coalesce(outcome, '') FROM spillway.quarantine
          JOIN spillway.streams ON id = stream"""
    found, outcomes = {}, {}
    for stream, entry_id, fields, outcome in connection.execute(query):
        found[stream, entry_id] = fields
        outcomes[stream, entry_id] = outcome
    counts.lost += len(expected.keys() - found.keys())
    counts.different += len(found.keys() - expected.keys())
    counts.different += sum(found[key] != expected[key] for key in expected.keys() & found.keys())
    redriven = {key for key, outcome in outcomes.items() if outcome == "redriven"}
    fixed = {(one.stream, entry_id) for one in produced for entry_id in one.fixed}
    counts.lost += len(fixed - redriven)
    counts.different += len(redriven - fixed)


def _compare_ledger(connection: psycopg.Connection, one: Produced, counts: VerdictCounts) -> int:
    """Compare the sums of the ledger. Returns its number of inserted events of the stream."""
    if not one.entries:
        return 0
    read, inserted, duplicates, quarantined = (n or 0 for n in ledger_sums(connection, one.stream))
    counts.lost += max(0, len(one.entries) - read)
    counts.doubled += max(0, read - len(one.entries))
    if not ledger_is_whole(connection, one.stream):
        counts.unbalanced.append(f"the ledger of {one.stream} is not one piece")
    if quarantined != len(one.bad):
        counts.unbalanced.append(
            f"{one.stream}: {quarantined} quarantined by the ledger, {len(one.bad)} bad were produced"
        )
    if read != inserted + duplicates + quarantined:
        counts.unbalanced.append(f"{one.stream}: {read} read, {inserted} + {duplicates} + {quarantined} accounted for")
    return inserted


def _compare_settlements(connection: psycopg.Connection, produced: Sequence[Produced], counts: VerdictCounts) -> None:
    query = "SELECT name, lost::int, (settled_entries_added - baseline)::int FROM spillway.streams"
    settled = {name: (lost, added) for name, lost, added in connection.execute(query)}
    for one in produced:
        expected = (0, len(one.entries))
        if one.entries and settled.get(one.stream) != expected:
            counts.unbalanced.append(
                f"{one.stream}: lost and settled are {settled.get(one.stream)}, expected {expected}"
            )
