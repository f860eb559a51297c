"""Check that the ledger of a stream balances, range by range and as a whole, and has no gap or overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from infra.connections.clients import Clients
from infra.display import display_name
from tasks.base.addresses import IdRange
from tasks.base.step import step
from tasks.base.stream_sql import fill_in
from tasks.files.file_ledger import find_path
from tasks.ledger.names import is_file_ledger, original_name
from tasks.ledger.plan import check_stream
from tasks.ledger.stream_progress import BY_LEDGER, progress_fault
from tasks.streams.glob import glob_regex, is_pattern, literal


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


@dataclass(frozen=True)
class LedgerTotals:
    """The totals of one stream's ledger.

    `waiting`: quarantined entries that are neither redriven nor discarded. `redriven`: rows that redrives added, which
    are in no range. `accepted`: lost entries that somebody has accepted; `accepted_by` and `accepted_at` (ISO 8601): by
    whom and when, the last time.
    """

    stream: str
    ranges: int
    read: int
    inserted: int
    duplicates: int
    quarantined: int
    waiting: int
    lost: int
    accepted: int = 0
    accepted_by: str | None = None
    accepted_at: str | None = None
    redriven: int = 0

    @property
    def loss(self) -> str | None:
        """A message about lost entries that nobody has accepted, and what to do; None if there are none."""
        if self.lost == self.accepted:
            return None
        name = display_name(self.stream)
        return (
            f"{self.lost - self.accepted} entries of {name} are lost: they were gone from Redis before they were"
            " drained; see «lost is not 0» in docs/operations.md, then accept the loss: spillway stream accept-loss"
            f" {name}"
        )

    @property
    def acceptance(self) -> str | None:
        """A message about who accepted a loss; None if nobody did."""
        if not self.accepted:
            return None
        return (
            f"{self.accepted} lost entries of {display_name(self.stream)} were accepted by {self.accepted_by} at"
            f" {self.accepted_at}"
        )

    @property
    def addition(self) -> str | None:
        """A message about the rows that redrives added; None if there are none."""
        if not self.redriven:
            return None
        rows, was = ("1 row", "was") if self.redriven == 1 else (f"{self.redriven:,} rows", "were")
        return f"{rows} of {display_name(self.stream)} {was} added by redrives, in addition to the inserted ones"


_TOTALS = """
    SELECT s.name AS stream, coalesce(sum(l.ranges), 0)::bigint AS ranges, coalesce(sum(l.read), 0)::bigint AS read,
           coalesce(sum(l.inserted), 0)::bigint AS inserted, coalesce(sum(l.duplicates), 0)::bigint AS duplicates,
           coalesce(sum(l.quarantined), 0)::bigint AS quarantined, s.lost, s.accepted, s.accepted_by,
           to_char(s.accepted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS accepted_at,
           (SELECT count(*) FROM spillway.quarantine AS q WHERE q.stream = s.id AND q.outcome IS NULL) AS waiting,
           (SELECT coalesce(sum(inserted), 0)::bigint FROM spillway.redrives AS r WHERE r.stream = s.id) AS redriven
      FROM spillway.streams AS s LEFT JOIN spillway.ledger AS l ON l.stream = s.id
     WHERE s.name = %s GROUP BY s.id"""
_UNBALANCED = fill_in("""
    SELECT lower(ids)::text AS start, upper(ids)::text AS stop, rows, inserted + duplicates + quarantined AS found
      FROM spillway.ledger WHERE stream = {stream_id}
       AND rows <> inserted + duplicates + quarantined""")
# Quarantined entries, by the last range that starts before them; `strays` lie after its end, or before all ranges.
_KEPT = fill_in("""
    WITH ranges AS (SELECT ids, quarantined, row_number() OVER (ORDER BY ids) AS number FROM spillway.ledger
                     WHERE stream = {stream_id}),
         kept AS (SELECT split_part(entry_id, '-', 1)::numeric * 18446744073709551616
                         + split_part(entry_id, '-', 2)::numeric AS id
                    FROM spillway.quarantine
                   WHERE stream = {stream_id}),
         numbered AS (SELECT id, is_kept, count(*) FILTER (WHERE NOT is_kept) OVER (ORDER BY id, is_kept) AS number
                        FROM (SELECT lower(ids) AS id, false AS is_kept FROM ranges
                              UNION ALL SELECT id, true FROM kept) AS points),
         counted AS (SELECT number, coalesce(quarantined, 0) AS expected, ids,
                            count(*) FILTER (WHERE is_kept AND id < upper(ids)) AS found,
                            count(*) FILTER (WHERE is_kept AND (ids IS NULL OR id >= upper(ids))) AS strays,
                            max(id) AS last
                       FROM numbered LEFT JOIN ranges USING (number) GROUP BY number, ids, quarantined)
    SELECT coalesce(lower(ids), 0)::text AS start, greatest(upper(ids), last + 1)::text AS stop,
           expected, found + strays AS found
      FROM counted WHERE expected <> found OR strays > 0""")
_GAPS = fill_in("""
    SELECT lower(gap)::text AS start, upper(gap)::text AS stop
      FROM (SELECT unnest(nummultirange(numrange(0, max(upper(ids)))) - range_agg(ids) - coalesce(
                       (SELECT nummultirange(f.skipped) FROM spillway.files AS f WHERE f.stream = min(l.stream)), '{}'))
                   AS gap
              FROM spillway.ledger AS l
             WHERE stream = {stream_id}) AS gaps""")
_OVERLAPS = fill_in("""
    SELECT lower(ids)::text AS start, upper(ids)::text AS stop
      FROM (SELECT ids, max(upper(ids)) OVER (ORDER BY ids ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
              FROM spillway.ledger WHERE stream = {stream_id}) AS ranges
     WHERE before > lower(ids)""")
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

_BY_HAND = "find out who edited the ledger: see «the books do not balance» in docs/operations.md"


def check_balance(
    client: redis.Redis, connection: psycopg.Connection, stream: str
) -> tuple[LedgerTotals, list[Finding]]:
    """The totals of the ledger of `stream`, and everything in it that does not balance.

    Reads one snapshot of the database, and the stream's tail afterwards, so that drains may run meanwhile. Raises
    `psycopg.Error` and `redis.RedisError`.
    """
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = cursor.execute(_TOTALS, [stream]).fetchone()
        if row is None:
            nothing = Finding(stream, "unknown", "", 0, "it was never drained", f"spillway drain --stream {stream}")
            return LedgerTotals(stream, 0, 0, 0, 0, 0, 0, 0), [nothing]
        findings = [*_progress(cursor, stream), *_ranges(cursor, stream), *_laws(cursor, stream)]
    if is_file_ledger(stream) or stream != original_name(stream):
        return LedgerTotals(**row), findings  # Redis has no stream of this name
    accept = f"spillway stream accept-rewind {stream}"
    found = check_stream(client, connection, stream)
    if found.tail is None:
        findings.append(Finding(stream, "gone", "", 1, "there is no such stream in Redis any more", accept))
    elif found.reason:
        findings.append(Finding(stream, "went back", "", 1, found.reason, accept))
    return LedgerTotals(**row), findings


def known_streams(
    connection: psycopg.Connection, wanted: list[str], files: bool = True, retired: bool = False
) -> list[str]:
    """The names in `wanted`, and the registered streams that match its patterns, sorted.

    `files`: whether patterns match files too. `retired`: whether they match the ledgers of former streams and of
    repeated loads too, by the name without the suffix.
    """
    rows = connection.execute("SELECT name FROM spillway.streams").fetchall()
    names = {name for (name,) in rows if files or not is_file_ledger(name)}
    if not retired:
        names = {name for name in names if name == original_name(name)}
    patterns = [name for name in wanted if is_pattern(name)]
    expressions = [glob_regex(pattern) for pattern in patterns]
    fitting = {name for name in names if any(one.fullmatch(original_name(name).encode()) for one in expressions)}
    return sorted(fitting | {literal(name) for name in wanted if name not in patterns})


def _ranges(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    findings = []
    for row in cursor.execute(_UNBALANCED, {"stream": stream}).fetchall():
        detail = f"{row['rows']} rows, but inserted + duplicates + quarantined is {row['found']}"
        findings.append(Finding(stream, "range does not balance", _ids(row), 1, detail, _BY_HAND))
    for row in cursor.execute(_KEPT, {"stream": stream}).fetchall():
        detail = f"expected {row['expected']} entries in spillway.quarantine by the ledger, found {row['found']}"
        findings.append(Finding(stream, "quarantine does not balance", _ids(row), 1, detail, _BY_HAND))
    path = find_path(cursor.connection, stream)
    for row in cursor.execute(_GAPS, {"stream": stream}).fetchall():
        detail = "ids before the last drained one that are in no range of the ledger"
        repair = f"spillway backfill {path}" if path else f"spillway drain --stream {stream}"
        findings.append(Finding(stream, "gap", _ids(row), 1, detail, repair))
    for row in cursor.execute(_OVERLAPS, {"stream": stream}).fetchall():
        detail = "ids that are in an earlier range too: the constraint ledger_no_overlap is missing"
        findings.append(Finding(stream, "overlap", _ids(row), 1, detail, _BY_HAND))
    return findings


def _progress(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    """What the progress in the stream's row says other than its ledger."""
    row = cursor.execute(_PROGRESS, [stream]).fetchone()
    assert row is not None  # the caller has read the stream's row
    wrong = [f"{name} is {row[name]}, expected {row['expected_' + name]}" for name in ("read", "inserted", "loaded_at")
             if row[name] != row["expected_" + name]]  # fmt: skip
    ids = ""
    if row["start"] is not None:
        ids = _ids(row)
        wrong.insert(0, "drained has other ids than the ledger")
    if not wrong:
        return []
    detail = f"{progress_fault(stream)}: in spillway.streams, {'; '.join(wrong)}: the next drain would believe it"
    return [Finding(stream, "progress does not balance", ids, 1, detail, "spillway schema")]


def _laws(cursor: psycopg.Cursor[dict[str, Any]], stream: str) -> list[Finding]:
    row = cursor.execute(_SETTLED, [stream]).fetchone()
    assert row is not None  # the caller has read the stream's row
    findings = []
    if row["lost"] != row["lost_in_ledger"]:
        detail = f"{row['lost']} lost according to spillway.streams, {row['lost_in_ledger']} according to the ledger"
        findings.append(Finding(stream, "losses do not balance", "", 1, detail, _BY_HAND))
    # A gap is a finding of its own; its unread entries would be missing in this sum.
    if row["settled_id"] is not None and not row["has_gap"] and row["added"] != row["read"] + row["lost"]:
        detail = (
            f"{row['added']} entries were added up to the settled tail, but read + lost is {row['read'] + row['lost']}"
        )
        findings.append(Finding(stream, "stream does not balance", "", 1, detail, _BY_HAND))
    return findings


def _ids(row: dict[str, Any]) -> str:
    return str(IdRange(int(row["start"]), int(row["stop"])))


@step("known streams")
def find_known(clients: Clients, wanted: list[str], files: bool, retired: bool) -> list[str]:
    """`known_streams`, as a task."""
    with clients.translate_errors("reconcile"), clients.postgres() as connection:
        return known_streams(connection, wanted, files, retired)


@step("reconcile")
def reconcile_stream(clients: Clients, stream: str) -> tuple[LedgerTotals, list[Finding]]:
    """`check_balance`, as a task."""
    with clients.translate_errors(f"reconcile {stream}"), clients.postgres() as connection:
        return check_balance(clients.redis, connection, stream)
