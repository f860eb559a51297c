\set ON_ERROR_STOP on
-- Spillway's tables. Safe to apply again and again:  psql -d analytics -f schema.sql
-- One transaction: after a refusal nothing of it is there.

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
-- Two that apply it at the same moment take turns.
SELECT pg_advisory_xact_lock(hashtext('spillway schema'));

DO $$
DECLARE
    version text;
BEGIN
    SELECT coalesce(installed_version, default_version) INTO version
      FROM pg_available_extensions WHERE name = 'timescaledb';
    IF version IS NULL THEN
        RAISE EXCEPTION 'this server has no TimescaleDB extension'
            USING HINT = 'install TimescaleDB 2.18.1 or later on the server, or use another one (spillway up)';
    END IF;
    IF string_to_array(split_part(version, '-', 1), '.')::int[] < ARRAY[2, 18, 1] THEN
        RAISE EXCEPTION 'TimescaleDB % is older than 2.18.1, and 2.17 can lose rows silently in INSERT ... ON CONFLICT'
            ' (timescaledb issue 7672)', version
            USING HINT = 'install TimescaleDB 2.18.1 or later, then ALTER EXTENSION timescaledb UPDATE';
    END IF;
END $$;

-- Not into whatever schema this session would take: its search_path may begin with any.
SET LOCAL search_path = public;
CREATE EXTENSION IF NOT EXISTS timescaledb;
SELECT set_config('search_path', format('pg_catalog, %I', nspname), true)
  FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'timescaledb';

-- `spillway schema` puts SPILLWAY_EVENTS_SCHEMA in the place of public.
CREATE TABLE IF NOT EXISTS public.events (
    time TIMESTAMPTZ NOT NULL,
    event_id UUID NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT NOT NULL,
    properties JSONB,
    PRIMARY KEY (event_id, time)
);

SELECT create_hypertable('public.events', 'time', if_not_exists => true);

CREATE INDEX IF NOT EXISTS events_event_type_time_idx ON public.events (event_type, time);
CREATE INDEX IF NOT EXISTS events_user_id_time_idx ON public.events (user_id, time);
CREATE INDEX IF NOT EXISTS events_properties_idx ON public.events USING gin (properties);

CREATE SCHEMA IF NOT EXISTS spillway;

-- Which database this is: its consumer group in Redis is named after it. Everybody may read it.
CREATE TABLE IF NOT EXISTS spillway.instance (
    single BOOLEAN PRIMARY KEY DEFAULT true CHECK (single),
    id UUID NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO spillway.instance DEFAULT VALUES ON CONFLICT DO NOTHING;
GRANT SELECT ON spillway.instance TO PUBLIC;

-- One row a stream. `baseline` is entries-added when Spillway first saw the stream, less what was still in it:
-- entries-added at the tail - baseline = read + lost, at every settled tail.
-- `settled_hash` is of the entry at that tail: where another one has its id, the stream went back.
-- `accepted`: how many of the lost entries somebody has accepted as lost, who did so last, and when.
CREATE TABLE IF NOT EXISTS spillway.streams (
    id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    first_seen TIMESTAMPTZ NOT NULL DEFAULT now(),
    baseline BIGINT NOT NULL,
    lost BIGINT NOT NULL DEFAULT 0,
    settled_id NUMERIC,
    settled_entries_added BIGINT,
    settled_at TIMESTAMPTZ,
    settled_hash BYTEA,
    accepted BIGINT NOT NULL DEFAULT 0,
    accepted_by TEXT,
    accepted_at TIMESTAMPTZ
);
ALTER TABLE spillway.streams
    ADD COLUMN IF NOT EXISTS settled_hash BYTEA,
    ADD COLUMN IF NOT EXISTS accepted BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS accepted_by TEXT,
    ADD COLUMN IF NOT EXISTS accepted_at TIMESTAMPTZ;

-- What has been drained, committed with the events themselves. An entry id `ms-seq` is the number ms * 2^64 + seq.
-- `ranges`: neighbours older than a day become one row, so that the ledger does not grow with age.
-- `lost`: entries that were gone before they were drained, and among which ids; their sum is `streams.lost`.
-- `seconds` that the load took from `loaded_at` on, the longest where several are merged.
CREATE TABLE IF NOT EXISTS spillway.ledger (
    stream INT NOT NULL REFERENCES spillway.streams,
    ids NUMRANGE NOT NULL CHECK (NOT isempty(ids) AND NOT lower_inf(ids) AND NOT upper_inf(ids)),
    ranges BIGINT NOT NULL DEFAULT 1,
    read BIGINT NOT NULL DEFAULT 0,
    inserted BIGINT NOT NULL DEFAULT 0,
    duplicates BIGINT NOT NULL DEFAULT 0,
    quarantined BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    min_time TIMESTAMPTZ,
    max_time TIMESTAMPTZ,
    loaded_by TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    lost BIGINT NOT NULL DEFAULT 0,
    lost_ids NUMRANGE,
    seconds REAL,
    CONSTRAINT ledger_balances CHECK (read = inserted + duplicates + quarantined),
    -- No entry is drained twice, whoever tries.
    CONSTRAINT ledger_no_overlap EXCLUDE USING gist (int4range(stream, stream, '[]') WITH &&, ids WITH &&)
);
ALTER TABLE spillway.ledger
    ADD COLUMN IF NOT EXISTS ranges BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS lost BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS lost_ids NUMRANGE,
    ADD COLUMN IF NOT EXISTS seconds REAL;

-- Every entry that could not become a row, as it came: field names and values in turn.
-- `kind`: 'refused', or 'conflict' where the table has its key (event_id, time) with other content.
-- `outcome`: what became of it; null while it waits. `replayed`: the fields that were redriven, where they were edited. No row is ever deleted.
CREATE TABLE IF NOT EXISTS spillway.quarantine (
    stream INT NOT NULL REFERENCES spillway.streams,
    entry_id TEXT NOT NULL,
    fields BYTEA[] NOT NULL,
    field TEXT,
    reason TEXT NOT NULL,
    quarantined_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    kind TEXT NOT NULL DEFAULT 'refused' CHECK (kind IN ('refused', 'conflict')),
    outcome TEXT CHECK (outcome IN ('redriven', 'discarded')),
    replayed BYTEA[],
    resolved_by TEXT,
    resolved_at TIMESTAMPTZ,
    PRIMARY KEY (stream, entry_id)
);
ALTER TABLE spillway.quarantine
    ADD COLUMN IF NOT EXISTS kind TEXT NOT NULL DEFAULT 'refused' CHECK (kind IN ('refused', 'conflict')),
    ADD COLUMN IF NOT EXISTS outcome TEXT CHECK (outcome IN ('redriven', 'discarded')),
    ADD COLUMN IF NOT EXISTS replayed BYTEA[],
    ADD COLUMN IF NOT EXISTS resolved_by TEXT,
    ADD COLUMN IF NOT EXISTS resolved_at TIMESTAMPTZ;

-- Files that were backfilled. The stream `file:SHA-256` (of the file; of that and the columns in its path, if it has some) has
-- their rows in the ledger, by addresses `ms-row`: the day of the event (0 where it has no time) and the number of the row.
-- `path`: where the file was; `reading`: where its times came from; `skipped`: addresses left out because they are past retention.
CREATE TABLE IF NOT EXISTS spillway.files (
    stream INT PRIMARY KEY REFERENCES spillway.streams,
    path TEXT NOT NULL,
    mapping TEXT NOT NULL,
    reading TEXT NOT NULL,
    rows BIGINT NOT NULL,
    skipped NUMRANGE
);
-- Of a file of an archive: the columns of the table besides ours whose values its rows bring.
ALTER TABLE spillway.files ADD COLUMN IF NOT EXISTS own TEXT[];
CREATE INDEX IF NOT EXISTS files_path_idx ON spillway.files (path);

-- What retention has dropped, so that what is inserted is accounted for: rows in `events` + rows here >= inserted by the
-- ledger. `rows` is null where the database's own job dropped and nobody counted: all before `range_end` may be gone, by
-- whole chunks.
CREATE TABLE IF NOT EXISTS spillway.drops (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chunk TEXT NOT NULL,
    range_start TIMESTAMPTZ,
    range_end TIMESTAMPTZ NOT NULL,
    rows BIGINT,
    bytes BIGINT,
    dropped_by TEXT NOT NULL,
    dropped_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- No count is below zero. What an older version has counted wrongly stays on record: then only new rows are checked.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('spillway.ledger', 'ledger_counts',
         'ranges > 0 AND read >= 0 AND inserted >= 0 AND duplicates >= 0 AND quarantined >= 0 AND bytes >= 0 AND lost >= 0'),
        ('spillway.streams', 'streams_counts', 'lost >= 0'),
        ('spillway.streams', 'streams_accepted', 'accepted BETWEEN 0 AND lost'),
        ('spillway.files', 'files_counts', 'rows >= 0'),
        ('spillway.drops', 'drops_counts', 'rows >= 0 AND bytes >= 0')) AS checks (of_table, name, condition)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = wanted.of_table::regclass AND conname = wanted.name) THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID',
                           wanted.of_table, wanted.name, wanted.condition);
        END IF;
        IF EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = wanted.of_table::regclass AND conname = wanted.name AND NOT convalidated) THEN
            BEGIN
                EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', wanted.of_table, wanted.name);
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING '% has rows with counts below zero, which an older version has written', wanted.of_table
                    USING HINT = 'see "counts below zero" in docs/operations.md';
            END;
        END IF;
    END LOOP;
END $$;

COMMIT;
