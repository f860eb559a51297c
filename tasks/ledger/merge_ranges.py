"""Keep the ledger small: adjacent old rows are merged into one, with the sums of their counts.

A merged row no longer shows when its loads took place and how long each took. That is kept by the hour.
"""

from __future__ import annotations

import psycopg

from tasks.ledger.load_seconds import BUCKETS, SUM_OF_BUCKETS

# Younger rows stay: a run that lost the reply to its COMMIT still looks for its own row.
_AFTER = "1 day"
_MIN_ROWS_SAVED = 100  # fewer are merged at a later time
# Hours before that become one row, so that a stream has about 2,200 rows at most.
_HOURS_KEPT = "90 days"

# Two kinds of rows stay: a row with a loss, so that the ids of the loss stay as narrow as they were found, and a row
# with a count below zero, which an older version wrote, so that it stays visible. An island is a sequence of ranges
# without a gap. A row that was merged before (`ranges` > 1) is in `load_hours` already. No hour is both deleted and
# inserted: one before the kept ones is inserted as -infinity.
_MERGE = f"""
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
    ), forgotten AS (
        DELETE FROM spillway.load_hours
         WHERE stream = %(stream)s AND hour > '-infinity' AND hour < now() - %(hours_kept)s::interval
     RETURNING *
    ), hours AS (
        SELECT stream, CASE WHEN hour < now() - %(hours_kept)s::interval THEN '-infinity' ELSE hour END AS hour,
               count(*) AS loads, sum(read) AS read, sum(inserted) AS inserted, sum(duplicates) AS duplicates,
               sum(quarantined) AS quarantined, sum(bytes) AS bytes, coalesce(sum(seconds::float8), 0) AS seconds,
               coalesce(max(seconds), 0) AS max_seconds, {BUCKETS} AS buckets
          FROM (SELECT *, date_trunc('hour', loaded_at, 'UTC') AS hour FROM merged WHERE ranges = 1) AS loads
         GROUP BY 1, 2
         UNION ALL
        SELECT stream, '-infinity'::timestamptz, sum(loads), sum(read), sum(inserted), sum(duplicates),
               sum(quarantined), sum(bytes), sum(seconds), max(max_seconds), {SUM_OF_BUCKETS}
          FROM forgotten GROUP BY stream
    ), kept AS (
        INSERT INTO spillway.load_hours AS h (stream, hour, loads, read, inserted, duplicates, quarantined, bytes,
                                              seconds, max_seconds, buckets)
        SELECT stream, hour, sum(loads), sum(read), sum(inserted), sum(duplicates), sum(quarantined), sum(bytes),
               sum(seconds), max(max_seconds), {SUM_OF_BUCKETS}
          FROM hours GROUP BY 1, 2
            ON CONFLICT (stream, hour) DO UPDATE SET
               loads = h.loads + excluded.loads, read = h.read + excluded.read,
               inserted = h.inserted + excluded.inserted, duplicates = h.duplicates + excluded.duplicates,
               quarantined = h.quarantined + excluded.quarantined, bytes = h.bytes + excluded.bytes,
               seconds = h.seconds + excluded.seconds, max_seconds = greatest(h.max_seconds, excluded.max_seconds),
               buckets = ARRAY(SELECT h.buckets[i] + excluded.buckets[i]
                                 FROM generate_subscripts(h.buckets, 1) AS i ORDER BY i)
    )
    INSERT INTO spillway.ledger (stream, ids, ranges, read, rows, inserted, duplicates, quarantined, bytes,
                                 min_time, max_time, loaded_by, loaded_at, seconds, by_table)
    SELECT stream, numrange(min(lower(ids)), max(upper(ids))), sum(ranges), sum(read), sum(rows), sum(inserted),
           sum(duplicates), sum(quarantined), sum(bytes), min(min_time), max(max_time), 'several', max(loaded_at),
           max(seconds),
           (SELECT jsonb_object_agg(name, rows) FROM (
               SELECT name, sum(count::bigint) AS rows FROM merged AS m, jsonb_each_text(m.by_table) AS t (name, count)
                WHERE m.island = merged.island GROUP BY name) AS tables)
      FROM merged GROUP BY stream, island"""  # noqa: S608


def merge_ranges(connection: psycopg.Connection, stream_id: int) -> None:
    """Merge adjacent old rows of a stream. The drained ids and all sums stay the same. Raises `psycopg.Error`."""
    limits = {"after": _AFTER, "min_rows_saved": _MIN_ROWS_SAVED, "hours_kept": _HOURS_KEPT}
    connection.execute(_MERGE, {"stream": stream_id} | limits)
