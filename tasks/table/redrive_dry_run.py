"""What a redrive would do: it is done, counted by reason, and rolled back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from infra.connections.clients import Clients
from tasks.base.progress import Advanced, Started, emit
from tasks.base.step import step
from tasks.table.insert import InsertRoute
from tasks.table.new_chunks import NewChunkLimit
from tasks.table.quarantine import CAUSE, FOR_GROUPS, Selection
from tasks.table.redrive import FindLayout, RedriveResult, replay_batches, replay_in

MOST_REASONS = 20  # listed, as by `quarantine list`
_MOST_WHYS = 3  # of one reason
# The reasons before the replay, which overwrites those of entries that fail again.
_KEEP: LiteralString = """
    CREATE TEMP TABLE spillway_waited ON COMMIT DROP AS
    SELECT q.stream, q.entry_id, q.part, q.kind, q.field, {cause} AS cause, q.reason
      FROM spillway.quarantine AS q JOIN spillway.streams AS s ON s.id = q.stream WHERE {condition}"""
# Entries that somebody else redrives or discards at the same time do not count.
_COUNT: LiteralString = """
    WITH replayed AS (
        SELECT w.stream, w.kind, w.field, w.cause, w.reason, q.outcome IS NULL AS refused,
               CASE WHEN q.outcome IS NULL THEN {cause} END AS why,
               CASE WHEN q.outcome IS NULL THEN q.reason END AS said
          FROM pg_temp.spillway_waited AS w JOIN spillway.quarantine AS q USING (stream, entry_id, part)
         WHERE q.outcome IS NULL OR q.resolved_by = %(run)s
    ), pairs AS (
        SELECT stream, kind, field, cause, refused, why, count(*) AS count, min(reason) AS reason, min(said) AS said
          FROM replayed GROUP BY 1, 2, 3, 4, 5, 6
    )
    SELECT count(*) OVER (), coalesce((SELECT min(path) FROM spillway.files AS f WHERE f.stream = p.stream), s.name),
           p.kind, coalesce(p.field, ''), min(p.reason), sum(p.count)::bigint,
           coalesce(sum(p.count) FILTER (WHERE NOT refused), 0)::bigint,
           (array_agg(p.said ORDER BY p.count DESC, p.said) FILTER (WHERE refused))[1:%(whys)s],
           (array_agg(p.count ORDER BY p.count DESC, p.said) FILTER (WHERE refused))[1:%(whys)s]
      FROM pairs AS p JOIN spillway.streams AS s ON s.id = p.stream
     GROUP BY p.stream, s.name, p.kind, p.field, p.cause
     ORDER BY 6 DESC, 2, 3, 4, 5 LIMIT %(limit)s"""


@dataclass(frozen=True)
class ReasonOutcome:
    """Entries of one stream or file that wait for one reason: how many, and of these, how many would be rescued.

    `reason`: of one of them. `still_refused`: the reasons of those that fail again, with their counts, the most
    frequent first; three at most.
    """

    stream: str
    kind: str
    field: str
    reason: str
    waiting: int
    rescued: int
    still_refused: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class DryRun:
    """What a redrive would do. `reasons`: those with the most entries. `all_reasons`: how many there are."""

    done: Sequence[RedriveResult]
    reasons: Sequence[ReasonOutcome]
    all_reasons: int


@step("try the redrive")
def try_redrive(
    clients: Clients, selection: Selection, find_layout: FindLayout, changes: Mapping[str, str], run: str,
    new_chunks: NewChunkLimit | None,
) -> DryRun:  # fmt: skip
    """Replay the selected entries, one batch after the other, in one transaction that is rolled back.

    One transaction, since an entry may be a duplicate of one in an earlier batch.
    """
    with (
        clients.translate_errors("try a redrive"),
        clients.postgres() as connection,
        connection.transaction(force_rollback=True),
    ):
        condition, values = selection.condition()
        connection.execute(sql.SQL(_KEEP).format(cause=CAUSE, condition=condition), values)
        batches = replay_batches(connection, selection)
        emit(Started("quarantine", sum(len(batch.entries) for batch in batches)))
        done: list[RedriveResult] = []
        for batch in batches:
            route = done[-1].next_route if done else InsertRoute.STRAIGHT
            done.append(replay_in(connection, clients, batch, find_layout, changes, run, new_chunks, route))
            emit(Advanced("quarantine", len(batch.entries)))
        return DryRun(done, *_reasons(connection, run))


def _reasons(connection: psycopg.Connection, run: str) -> tuple[list[ReasonOutcome], int]:
    connection.execute(FOR_GROUPS)
    query = sql.SQL(_COUNT).format(cause=CAUSE)
    rows = connection.execute(query, {"run": run, "limit": MOST_REASONS, "whys": _MOST_WHYS}).fetchall()
    reasons = [
        ReasonOutcome(stream, kind, field, reason, waiting, rescued, tuple(zip(said or (), counts or (), strict=True)))
        for _, stream, kind, field, reason, waiting, rescued, said, counts in rows
    ]
    return reasons, rows[0][0] if rows else 0
