"""The ids of a stream or a file that the ledger does not have yet: one query, for the drain and for the backfill."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from tasks.base.addresses import IdRange

UNDRAINED = """
    WITH stream AS (SELECT id, baseline, lost FROM spillway.streams WHERE name = %(stream)s),
         done AS (SELECT coalesce(range_agg(ids), '{}') AS ids, coalesce(sum(inserted), 0) = 0 AS fresh,
                         coalesce(sum(read), 0)::bigint AS read
                    FROM spillway.ledger WHERE stream = (SELECT id FROM stream))
    SELECT stream.baseline + stream.lost + done.read AS passed, fresh, lower(gap)::text, upper(gap)::text
      FROM stream, done
      LEFT JOIN LATERAL unnest(nummultirange(numrange(0, %(stop)s)) - done.ids) AS gap ON true
     ORDER BY gap"""


@dataclass(frozen=True)
class Undrained:
    """What the ledger does not have before some id. `gaps`: the id ranges, in order.

    `passed`: how many of the entries ever added to the stream are accounted for: read, lost, or removed before it
    was first seen. `fresh`: no event of it was ever inserted.
    """

    gaps: tuple[IdRange, ...]
    passed: int
    fresh: bool


def undrained(connection: psycopg.Connection, ledger_name: str, stop: int) -> Undrained | None:
    """What the ledger does not have of the ids before `stop`; None if it does not know the stream at all.

    Raises `psycopg.Error`.
    """
    rows = connection.execute(UNDRAINED, {"stream": ledger_name, "stop": stop}).fetchall()
    if not rows:
        return None
    passed, fresh, *_ = rows[0]
    gaps = tuple(IdRange(int(start), int(stop)) for *_, start, stop in rows if start is not None)
    return Undrained(gaps, passed, fresh)
