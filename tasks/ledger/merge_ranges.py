"""Keep the ledger small: adjacent old rows are merged into one, with the sums of their counts."""

from __future__ import annotations

import psycopg

# Younger rows stay: a run that lost the reply to its COMMIT still looks for its own row.
_AFTER = "1 day"
_MIN_ROWS_SAVED = 100  # fewer are merged at a later time

# Two kinds of rows stay: a row with a loss, so that the ids of the loss stay as narrow as they were found, and a row
# with a count below zero, which an older version wrote, so that it stays visible. An island is a sequence of ranges
# without a gap.
_MERGE = """
    WITH old AS MATERIALIZED (
        SELECT ids, count(*) FILTER (WHERE starts) OVER (ORDER BY ids) AS island
          FROM (SELECT ids, lower(ids) IS DISTINCT FROM lag(upper(ids)) OVER (ORDER BY ids) AS starts
                  FROM spillway.ledger
                 WHERE stream = %(stream)s AND lost = 0 AND inserted >= 0 AND duplicates >= 0
                   AND loaded_at < now() - %(after)s::interval) AS ranges
    ), many AS MATERIALIZED (
        SELECT ids, island FROM (SELECT ids, island, count(*) OVER (PARTITION BY island) AS n FROM old) AS islands
         WHERE n > 1 AND (SELECT count(*) - count(DISTINCT island) FROM old) >= %(min_rows_saved)s
    ), merged AS (
        DELETE FROM spillway.ledger AS l USING many
         WHERE l.stream = %(stream)s AND l.ids = many.ids
     RETURNING many.island, l.*
    )
    INSERT INTO spillway.ledger (stream, ids, ranges, read, rows, inserted, duplicates, quarantined, bytes,
                                 min_time, max_time, loaded_by, loaded_at, seconds, by_table)
    SELECT stream, numrange(min(lower(ids)), max(upper(ids))), sum(ranges), sum(read), sum(rows), sum(inserted),
           sum(duplicates), sum(quarantined), sum(bytes), min(min_time), max(max_time), 'several', max(loaded_at),
           max(seconds),
           (SELECT jsonb_object_agg(name, rows) FROM (
               SELECT name, sum(count::bigint) AS rows FROM merged AS m, jsonb_each_text(m.by_table) AS t (name, count)
                WHERE m.island = merged.island GROUP BY name) AS tables)
      FROM merged GROUP BY stream, island"""


def merge_ranges(connection: psycopg.Connection, stream_id: int) -> None:
    """Merge adjacent old rows of a stream. The drained ids and all sums stay the same. Raises `psycopg.Error`."""
    connection.execute(_MERGE, {"stream": stream_id, "after": _AFTER, "min_rows_saved": _MIN_ROWS_SAVED})
