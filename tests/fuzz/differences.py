"""Compare the tables with the oracle, entry by entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg

from tests.fuzz.jsonb import parse, stored
from tests.fuzz.prediction import Fate, Fields, Key, Oracle, Row
from tests.support.oracle import ledger_sums

_MAX_DIFFERENCES = 10  # differences; the first ones are the most useful
_FIELD_LENGTH = 300  # characters of a field

RawEntry = tuple[tuple[bytes, ...], str]  # the raw fields, and the kind


@dataclass
class PredictedStream:
    """The entries of one stream, by id, with the fates that the oracle predicts."""

    oracle: Oracle
    fates: dict[str, tuple[Fields, Fate]] = field(default_factory=dict)

    def predict(self, entry_id: str, fields: Fields) -> None:
        self.fates[entry_id] = (fields, self.oracle.predict(fields))

    @property
    def counts(self) -> Counter[Fate]:
        return Counter(fate for _, fate in self.fates.values())

    @property
    def quarantine(self) -> dict[str, RawEntry]:
        kinds = (Fate.REFUSED, Fate.CONFLICT)
        return {i: (tuple(fields), fate.value) for i, (fields, fate) in self.fates.items() if fate in kinds}

    @property
    def sums(self) -> tuple[int, int, int, int]:
        """The ledger's sums of read, inserted, duplicates and quarantined."""
        n = self.counts
        return n.total(), n[Fate.ROW], n[Fate.DUPLICATE], n[Fate.REFUSED] + n[Fate.CONFLICT]


def differences(connection: psycopg.Connection, predicted: dict[str, PredictedStream]) -> list[str]:
    """The differences between the tables and the oracle for all drained streams; empty if there are none."""
    return [line for line, _ in zip(_differences(connection, predicted), range(_MAX_DIFFERENCES), strict=False)]


def _differences(connection: psycopg.Connection, predicted: dict[str, PredictedStream]) -> Iterator[str]:
    kept, reasons = _quarantine(connection)
    for stream, one in predicted.items():
        expected, found = one.quarantine, kept.get(stream, {})
        for entry_id in sorted(expected.keys() | found.keys()):
            if expected.get(entry_id) != found.get(entry_id):
                fields, fate = one.fates[entry_id]
                reason = reasons.get((stream, entry_id), "is not in the quarantine")
                yield f"{stream} {entry_id}: expected {fate}; {reason}; {_as_text(fields)}"
                if entry_id in found and found[entry_id][0] != tuple(fields):
                    yield f"{stream} {entry_id}: its raw fields are {_as_text(found[entry_id][0])}"
    yield from _of_rows(table(connection), predicted)
    for stream, one in predicted.items():
        if (sums := ledger_sums(connection, stream)) != one.sums:
            yield f"{stream}: the ledger says {sums}, expected {one.sums}"


def _of_rows(found: dict[Key, Row], predicted: dict[str, PredictedStream]) -> Iterator[str]:
    expected: dict[Key, Row] = {}
    for one in predicted.values():
        assert not expected.keys() & one.oracle.rows.keys(), "streams of a campaign share no key"
        expected |= one.oracle.rows
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            yield f"row {key[0]} {key[1]}: expected {expected.get(key)!r:.900}; found {found.get(key)!r:.900}"


def table(connection: psycopg.Connection) -> dict[Key, Row]:
    """The table `events`, with every digit of its numbers."""
    query = """
        SELECT event_id, (extract(epoch FROM time) * 1000000)::bigint, event_type, user_id, properties::text
          FROM events"""
    rows: dict[Key, Row] = {}
    event_id: UUID
    for event_id, time, event_type, user_id, properties in connection.execute(query):
        document = None if properties is None else stored(parse(properties))
        rows[event_id, time] = Row(time, event_id, event_type, user_id, document)
    return rows


def _quarantine(
    connection: psycopg.Connection,
) -> tuple[dict[str, dict[str, RawEntry]], dict[tuple[str, str], str]]:
    """The quarantined entries by stream and entry id, and their reasons for the report."""
    query = """
        SELECT s.name, q.entry_id, q.fields, q.kind, q.reason
          FROM spillway.quarantine q JOIN spillway.streams s ON s.id = q.stream"""
    kept: dict[str, dict[str, RawEntry]] = {}
    reasons: dict[tuple[str, str], str] = {}
    row: Any
    for row in connection.execute(query):
        stream, entry_id, fields, kind, reason = row
        kept.setdefault(stream, {})[entry_id] = (tuple(fields), kind)
        reasons[stream, entry_id] = f"{kind}: {reason}"
    return kept, reasons


def _as_text(fields: Fields) -> str:
    return ", ".join(ascii(part[:_FIELD_LENGTH]) + ("…" if len(part) > _FIELD_LENGTH else "") for part in fields[:20])
