"""The ids of a stream or a file that the ledger does not have yet: one query, for the drain and for the backfill."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from tasks.base.addresses import IdRange

UNDRAINED = """
    SELECT s.baseline + s.lost + s.read AS passed, s.inserted = 0 AS fresh, lower(gap)::text, upper(gap)::text
      FROM spillway.streams AS s
      LEFT JOIN LATERAL unnest(nummultirange(numrange(0, %(stop)s)) - s.drained) AS gap ON true
     WHERE s.name = %(stream)s ORDER BY gap"""


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
