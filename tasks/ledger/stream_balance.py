"""Whether the row of a stream in `spillway.streams` agrees with its ledger. Every plan believes that row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tasks.base.addresses import IdRange
from tasks.ledger.stream_progress import BY_LEDGER, progress_fault

BY_HAND = "find out who edited the ledger: see «the books do not balance» in docs/operations.md"
# What was added up to the settled tail, what was read, and what was lost.
_SETTLED = """
    SELECT s.settled_id::text, s.settled_entries_added - s.baseline AS added, s.lost,
           (SELECT coalesce(sum(read), 0) FROM spillway.ledger AS l
             WHERE l.stream = s.id AND lower(l.ids) <= s.settled_id)::bigint AS read,
           (SELECT coalesce(sum(upper(l.ids) - lower(l.ids)), 0) < max(upper(l.ids)) FROM spillway.ledger AS l
             WHERE l.stream = s.id AND lower(l.ids) <= s.settled_id) AS has_gap,
           (SELECT coalesce(sum(l.lost), 0) FROM spillway.ledger AS l WHERE l.stream = s.id)::bigint AS lost_in_ledger
      FROM spillway.streams AS s WHERE s.name = %s"""

# The progress in the stream's row, and what it is by the ledger. `start`, `stop`: the span of the ids that only one of
# them has.
_PROGRESS = f"""
    SELECT s.read, s.inserted, s.loaded_at::text, l.read AS expected_read, l.inserted AS expected_inserted,
           l.loaded_at::text AS expected_loaded_at, lower(differing)::text AS start, upper(differing)::text AS stop
      FROM spillway.streams AS s, LATERAL ({BY_LEDGER}) AS l,
           LATERAL (SELECT (s.drained - l.drained) + (l.drained - s.drained) AS differing) AS ids
     WHERE s.name = %s"""  # noqa: S608


@dataclass(frozen=True)
class Finding:
    """Something that does not balance.

    `what`: missing, different, doubled, unreadable, or the check that failed. `ids`: where, as text. `count`: of
    entries or ranges. `repair`: the command to run, or what to do by hand.
    """

    stream: str
    what: str
    ids: str
    count: int
    detail: str
    repair: str


def row_findings(connection: psycopg.Connection, stream: str) -> list[Finding]:
    """Everything in the row of `stream` that does not agree with its ledger; nothing if there is no such row.

    Raises `psycopg.Error`.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        progress = cursor.execute(_PROGRESS, [stream]).fetchone()
        settled = cursor.execute(_SETTLED, [stream]).fetchone()
    if progress is None or settled is None:
        return []
    return [*_progress(progress, stream), *_laws(settled, stream)]


def _progress(row: dict[str, Any], stream: str) -> list[Finding]:
    """What the progress in the stream's row says other than its ledger."""
    wrong = [f"{name} is {row[name]}, expected {row['expected_' + name]}" for name in ("read", "inserted", "loaded_at")
             if row[name] != row["expected_" + name]]  # fmt: skip
    ids = ""
    if row["start"] is not None:
        ids = row_ids(row)
        wrong.insert(0, "drained has other ids than the ledger")
    if not wrong:
        return []
    detail = f"{progress_fault(stream)}: in spillway.streams, {'; '.join(wrong)}: the next drain would believe it"
    return [Finding(stream, "progress does not balance", ids, 1, detail, "spillway schema")]


def _laws(row: dict[str, Any], stream: str) -> list[Finding]:
    findings = []
    if row["lost"] != row["lost_in_ledger"]:
        detail = f"{row['lost']} lost according to spillway.streams, {row['lost_in_ledger']} according to the ledger"
        findings.append(Finding(stream, "losses do not balance", "", 1, detail, BY_HAND))
    # A gap is a finding of its own; its unread entries would be missing in this sum.
    if row["settled_id"] is not None and not row["has_gap"] and row["added"] != row["read"] + row["lost"]:
        detail = (
            f"{row['added']} entries were added up to the settled tail, but read + lost is {row['read'] + row['lost']}"
        )
        findings.append(Finding(stream, "stream does not balance", "", 1, detail, BY_HAND))
    return findings


def row_ids(row: dict[str, Any]) -> str:
    """The range from `start` to `stop` of a row of a query, as text."""
    return str(IdRange(int(row["start"]), int(row["stop"])))
