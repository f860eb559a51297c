"""Keep the ledger small: old rows that touch each other become one, with the sums of their counts."""

from __future__ import annotations

import psycopg

# Younger rows stay as they are: a run that lost the answer to its commit still looks for its own.
_AFTER = "1 day"
_WORTH_IT = 100  # rows that go; fewer wait for the next time

# A row with a loss stays as it is, so that its ids stay as narrow as they were found; and one with a count below zero,
# which an older version has written, so that it stays in sight. An island is a run of ranges without a gap between
# them.
_COMPACT = """
    WITH old AS MATERIALIZED (
        SELECT ids, count(*) FILTER (WHERE starts) OVER (ORDER BY ids) AS island
          FROM (SELECT ids, lower(ids) IS DISTINCT FROM lag(upper(ids)) OVER (ORDER BY ids) AS starts
                  FROM spillway.ledger
                 WHERE stream = %(stream)s AND lost = 0 AND inserted >= 0 AND duplicates >= 0
                   AND loaded_at < now() - %(after)s::interval) AS ranges
    ), many AS MATERIALIZED (
        SELECT ids, island FROM (SELECT ids, island, count(*) OVER (PARTITION BY island) AS n FROM old) AS islands
         WHERE n > 1 AND (SELECT count(*) - count(DISTINCT island) FROM old) >= %(worth_it)s
    ), gone AS (
        DELETE FROM spillway.ledger AS l USING many
         WHERE l.stream = %(stream)s AND l.ids = many.ids
     RETURNING many.island, l.*
    )
    INSERT INTO spillway.ledger (stream, ids, ranges, read, inserted, duplicates, quarantined, bytes,
                                 min_time, max_time, loaded_by, loaded_at, seconds)
    SELECT stream, numrange(min(lower(ids)), max(upper(ids))), sum(ranges), sum(read), sum(inserted), sum(duplicates),
           sum(quarantined), sum(bytes), min(min_time), max(max_time), 'several', max(loaded_at), max(seconds)
      FROM gone GROUP BY stream, island"""


def merge_ranges(connection: psycopg.Connection, stream_id: int) -> None:
    """Merge the old neighbours in the ledger of a stream. What is drained, and every sum, stays what it was."""
    connection.execute(_COMPACT, {"stream": stream_id, "after": _AFTER, "worth_it": _WORTH_IT})
