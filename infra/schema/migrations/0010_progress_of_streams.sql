-- The progress of each stream, written in the transaction of each range of its ledger, so that nobody has to add up the
-- whole ledger to plan or settle.
-- `drained`: all ids in the ledger. `read`, `inserted`: sums over it. `loaded_at`: of its latest range.
ALTER TABLE spillway.streams
    ADD COLUMN IF NOT EXISTS drained NUMMULTIRANGE NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS read BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS inserted BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS loaded_at TIMESTAMPTZ;
-- With the time, since a settlement looks for ranges older than a day, which it merges.
CREATE INDEX IF NOT EXISTS ledger_stream_idx ON spillway.ledger (stream, loaded_at);

-- Also if it is applied again: an edit of the ledger by hand does not reach the progress by itself. The lock of the ALTER
-- TABLE waits for loads that have written their range and not yet their progress.
DO $$
DECLARE
    refresh CONSTANT text := $sql$
        UPDATE spillway.streams AS s
           SET drained = l.drained, read = l.read, inserted = l.inserted, loaded_at = l.loaded_at
          FROM (SELECT streams.id, coalesce(range_agg(ids) FILTER (WHERE ids IS NOT NULL), '{}') AS drained,
                       coalesce(sum(ledger.read), 0)::bigint AS read,
                       coalesce(sum(ledger.inserted), 0)::bigint AS inserted, max(ledger.loaded_at) AS loaded_at
                  FROM spillway.streams LEFT JOIN spillway.ledger ON ledger.stream = streams.id
                 GROUP BY streams.id) AS l
         WHERE s.id = l.id
           AND (s.drained, s.read, s.inserted, s.loaded_at)
               IS DISTINCT FROM (l.drained, l.read, l.inserted, l.loaded_at)$sql$;
    checks text[];
    one text;
BEGIN
    EXECUTE refresh;
EXCEPTION WHEN check_violation THEN
    -- Without the checks for a moment: a wrong count of an earlier release stays on record.
    SELECT array_agg(format('%I %s', conname, pg_get_constraintdef(oid))) INTO checks
      FROM pg_constraint WHERE conrelid = 'spillway.streams'::regclass AND contype = 'c' AND NOT convalidated;
    FOREACH one IN ARRAY checks LOOP
        EXECUTE 'ALTER TABLE spillway.streams DROP CONSTRAINT ' || split_part(one, ' ', 1);
    END LOOP;
    EXECUTE refresh;
    FOREACH one IN ARRAY checks LOOP
        EXECUTE 'ALTER TABLE spillway.streams ADD CONSTRAINT ' || one;
    END LOOP;
END $$;
