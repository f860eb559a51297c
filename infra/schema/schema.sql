\set ON_ERROR_STOP on
-- Spillway's tables. Safe to apply again and again:  psql -d analytics -f schema.sql
-- Generated from infra/schema/ by `make schema`: do not edit it. Each part is one transaction.

-- preamble.sql --------------------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- Refuse a server or a database that Spillway cannot work with, before anything is created.
DO $$
DECLARE
    version text;
BEGIN
    IF current_setting('server_version_num')::int < 15 * 10000 THEN
        RAISE EXCEPTION 'this server is PostgreSQL %, expected 15 or later', current_setting('server_version')
            USING HINT = 'upgrade it, or use another server (spillway up)';
    END IF;
    SELECT coalesce(installed_version, default_version) INTO version
      FROM pg_available_extensions WHERE name = 'timescaledb';
    -- Null on a server without TimescaleDB: its tables are plain or partitioned.
    IF string_to_array(split_part(version, '-', 1), '.')::int[] < string_to_array('2.18.1', '.')::int[] THEN
        RAISE EXCEPTION 'TimescaleDB % is older than 2.18.1, and 2.17 can lose rows silently in'
            ' INSERT ... ON CONFLICT (timescaledb issue 7672)', version
            USING HINT = 'install TimescaleDB 2.18.1 or later, then ALTER EXTENSION timescaledb UPDATE';
    END IF;
END $$;

-- If the server has it. In public, whatever the search_path of this session begins with.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') THEN
        CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public;
    END IF;
END $$;

-- One row for each migration that was applied; the schema's version is the greatest. Everybody may read it.
DO $$
DECLARE
    found int;
BEGIN
    IF to_regclass('spillway.schema_version') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS spillway;
        CREATE TABLE spillway.schema_version (
            version INT PRIMARY KEY CHECK (version > 0),
            name TEXT NOT NULL,
            applied_at TIMESTAMPTZ NOT NULL DEFAULT now()
        );
        GRANT SELECT ON spillway.schema_version TO PUBLIC;
    END IF;
    SELECT max(schema_version.version) INTO found FROM spillway.schema_version;
    IF found > 13 THEN
        RAISE EXCEPTION 'the schema of this database is newer than this release of Spillway: expected version 13 or earlier,'
            ' found %', found
            USING HINT = 'nothing was changed; upgrade Spillway';
    END IF;
END $$;
COMMIT;

-- events.sql ----------------------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- The default table. It is created if it does not exist, and never changed. With TimescaleDB it is a hypertable, unless
-- the user has made it a partitioned table.
-- `spillway schema` replaces public with SPILLWAY_EVENTS_SCHEMA.
DO $$
BEGIN
    PERFORM set_config('search_path', format('pg_catalog, %I', nspname), true)
       FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'timescaledb';
END $$;

CREATE TABLE IF NOT EXISTS public.events (
    time TIMESTAMPTZ NOT NULL,
    event_id UUID NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT NOT NULL,
    properties JSONB,
    PRIMARY KEY (event_id, time)
);

SET LOCAL spillway.events = 'public.events';
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       AND (SELECT relkind FROM pg_class WHERE oid = current_setting('spillway.events')::regclass) <> 'p' THEN
        PERFORM create_hypertable(current_setting('spillway.events')::regclass, 'time', if_not_exists => true);
    END IF;
END $$;

CREATE INDEX IF NOT EXISTS events_event_type_time_idx ON public.events (event_type, time);
CREATE INDEX IF NOT EXISTS events_user_id_time_idx ON public.events (user_id, time);
CREATE INDEX IF NOT EXISTS events_properties_idx ON public.events USING gin (properties);
COMMIT;

-- version 1: streams ledger quarantine --------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- One row for each stream. `baseline`: entries-added when Spillway first saw the stream, minus the entries that it still
-- had. At every settled tail: entries-added - baseline = read + lost.
CREATE TABLE IF NOT EXISTS spillway.streams (
    id INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    first_seen TIMESTAMPTZ NOT NULL DEFAULT now(),
    baseline BIGINT NOT NULL,
    lost BIGINT NOT NULL DEFAULT 0,
    settled_id NUMERIC,
    settled_entries_added BIGINT,
    settled_at TIMESTAMPTZ
);

-- One row for each drained range of ids, committed together with its events. The entry id `ms-seq` is the number
-- ms * 2^64 + seq.
CREATE TABLE IF NOT EXISTS spillway.ledger (
    stream INT NOT NULL REFERENCES spillway.streams,
    ids NUMRANGE NOT NULL CHECK (NOT isempty(ids) AND NOT lower_inf(ids) AND NOT upper_inf(ids)),
    read BIGINT NOT NULL DEFAULT 0,
    inserted BIGINT NOT NULL DEFAULT 0,
    duplicates BIGINT NOT NULL DEFAULT 0,
    quarantined BIGINT NOT NULL DEFAULT 0,
    bytes BIGINT NOT NULL DEFAULT 0,
    min_time TIMESTAMPTZ,
    max_time TIMESTAMPTZ,
    loaded_by TEXT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT ledger_balances CHECK (read = inserted + duplicates + quarantined),
    -- No entry is drained twice, whoever tries.
    CONSTRAINT ledger_no_overlap EXCLUDE USING gist (int4range(stream, stream, '[]') WITH &&, ids WITH &&)
);

-- Every entry that could not become a row. `fields`: its field names and values in turn, as they came.
CREATE TABLE IF NOT EXISTS spillway.quarantine (
    stream INT NOT NULL REFERENCES spillway.streams,
    entry_id TEXT NOT NULL,
    fields BYTEA[] NOT NULL,
    field TEXT,
    reason TEXT NOT NULL,
    quarantined_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, entry_id)
);

INSERT INTO spillway.schema_version (version, name) VALUES (1, 'streams_ledger_quarantine')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 2: losses conflicts redrives --------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- `settled_hash`: of the entry at the settled tail. If another entry has its id, the stream was rewound.
ALTER TABLE spillway.streams ADD COLUMN IF NOT EXISTS settled_hash BYTEA;

-- `ranges`: how many ranges this row holds. Neighbours older than a day are merged, so the ledger does not grow with age.
-- `lost`: entries that were gone before they were drained, with ids in `lost_ids`; their sum is `streams.lost`.
ALTER TABLE spillway.ledger
    ADD COLUMN IF NOT EXISTS ranges BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS lost BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS lost_ids NUMRANGE;

-- `kind`: 'refused', or 'conflict' if the table has a row with the same key (event_id, time) and other content.
-- `outcome`: what became of the entry; null while it waits. `replayed`: the fields that were redriven, if they were
-- edited. No row is ever deleted.
ALTER TABLE spillway.quarantine
    ADD COLUMN IF NOT EXISTS kind TEXT NOT NULL DEFAULT 'refused' CHECK (kind IN ('refused', 'conflict')),
    ADD COLUMN IF NOT EXISTS outcome TEXT CHECK (outcome IN ('redriven', 'discarded')),
    ADD COLUMN IF NOT EXISTS replayed BYTEA[],
    ADD COLUMN IF NOT EXISTS resolved_by TEXT,
    ADD COLUMN IF NOT EXISTS resolved_at TIMESTAMPTZ;

INSERT INTO spillway.schema_version (version, name) VALUES (2, 'losses_conflicts_redrives')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 3: load seconds and drops -----------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- `seconds`: how long the load took, from `loaded_at` on; of a merged row, the longest.
ALTER TABLE spillway.ledger ADD COLUMN IF NOT EXISTS seconds REAL;

-- The chunks that retention dropped. Rows in `events` + `rows` here >= rows inserted by the ledger.
-- `rows` is null if the database's own job dropped chunks and nobody counted: then all chunks before `range_end` may be
-- gone.
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

INSERT INTO spillway.schema_version (version, name) VALUES (3, 'load_seconds_and_drops')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 4: files ----------------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- The files that were backfilled. Their rows are in the ledger under the stream `file:SHA-256` (of the file, and of the
-- columns in its path if it has some), with addresses `day-row`: the day of the event in ms since 1970 (0 without a time),
-- and the number of the row.
-- `path`: where the file was. `reading`: where its times came from. `skipped`: addresses left out as past retention.
CREATE TABLE IF NOT EXISTS spillway.files (
    stream INT PRIMARY KEY REFERENCES spillway.streams,
    path TEXT NOT NULL,
    mapping TEXT NOT NULL,
    reading TEXT NOT NULL,
    rows BIGINT NOT NULL,
    skipped NUMRANGE
);
CREATE INDEX IF NOT EXISTS files_path_idx ON spillway.files (path);

INSERT INTO spillway.schema_version (version, name) VALUES (4, 'files')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 5: counts are not negative ----------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- No count is negative. If an earlier release wrote a wrong one, it stays on record, and only new rows are checked.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('spillway.ledger', 'ledger_counts',
         'ranges > 0 AND read >= 0 AND inserted >= 0 AND duplicates >= 0 AND quarantined >= 0 AND bytes >= 0 AND lost >= 0'),
        ('spillway.streams', 'streams_counts', 'lost >= 0'),
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
                RAISE WARNING '% has rows with counts below zero, written by an earlier release', wanted.of_table
                    USING HINT = 'see "counts below zero" in docs/operations.md';
            END;
        END IF;
    END LOOP;
END $$;

INSERT INTO spillway.schema_version (version, name) VALUES (5, 'counts_are_not_negative')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 6: instance -------------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- The identity of this database: its consumer group in Redis is named after it. Everybody may read it.
CREATE TABLE IF NOT EXISTS spillway.instance (
    single BOOLEAN PRIMARY KEY DEFAULT true CHECK (single),
    id UUID NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO spillway.instance DEFAULT VALUES ON CONFLICT DO NOTHING;
GRANT SELECT ON spillway.instance TO PUBLIC;

INSERT INTO spillway.schema_version (version, name) VALUES (6, 'instance')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 7: accepted losses ------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- `accepted`: how many of the lost entries were accepted as lost; who accepted the last of them, and when.
ALTER TABLE spillway.streams
    ADD COLUMN IF NOT EXISTS accepted BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS accepted_by TEXT,
    ADD COLUMN IF NOT EXISTS accepted_at TIMESTAMPTZ;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = 'spillway.streams'::regclass AND conname = 'streams_accepted') THEN
        -- NOT VALID: a wrong count of an earlier release stays on record.
        ALTER TABLE spillway.streams ADD CONSTRAINT streams_accepted CHECK (accepted BETWEEN 0 AND lost) NOT VALID;
    END IF;
    BEGIN
        ALTER TABLE spillway.streams VALIDATE CONSTRAINT streams_accepted;
    EXCEPTION WHEN check_violation THEN
        RAISE WARNING 'spillway.streams has rows with counts below zero, written by an earlier release'
            USING HINT = 'see "counts below zero" in docs/operations.md';
    END;
END $$;

INSERT INTO spillway.schema_version (version, name) VALUES (7, 'accepted_losses')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 8: columns of archives --------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- `own`: of a file of an archive, the columns besides Spillway's five whose values its rows have.
ALTER TABLE spillway.files ADD COLUMN IF NOT EXISTS own TEXT[];

INSERT INTO spillway.schema_version (version, name) VALUES (8, 'columns_of_archives')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 9: tables of streams ----------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- Every stream has its own table, named as a `regclass`. Streams and drops of an earlier release are those of `events`.
-- `streams.table`: fixed once the ledger has a range of the stream. `drops.table`: the table that the chunk was part of.
SET LOCAL spillway.events = 'public.events';
DO $$
DECLARE
    events text;
BEGIN
    SELECT format('"%s"."%s"', replace(nspname, '"', '""'), replace(relname, '"', '""')) INTO events
      FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
     WHERE pg_class.oid = current_setting('spillway.events')::regclass;
    -- As a default for a moment: an UPDATE would be refused if a row has a wrong count of an earlier release.
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'spillway.streams'::regclass AND attname = 'table') THEN
        EXECUTE format('ALTER TABLE spillway.streams ADD COLUMN "table" TEXT DEFAULT %L', events);
        ALTER TABLE spillway.streams ALTER COLUMN "table" DROP DEFAULT;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'spillway.drops'::regclass AND attname = 'table') THEN
        EXECUTE format('ALTER TABLE spillway.drops ADD COLUMN "table" TEXT NOT NULL DEFAULT %L', events);
        ALTER TABLE spillway.drops ALTER COLUMN "table" DROP DEFAULT;
    END IF;
END $$;

-- `rows`: the rows that the entries of the range became. An entry is one row, unless the mapping splits it into several.
-- `by_table`: if a route spreads a stream over several tables, how many rows each of them got, by its name as in
-- `streams.table`.
ALTER TABLE spillway.ledger ADD COLUMN IF NOT EXISTS rows BIGINT NOT NULL DEFAULT 0,
                            ADD COLUMN IF NOT EXISTS by_table JSONB;
CREATE INDEX IF NOT EXISTS ledger_by_table ON spillway.ledger (stream) WHERE by_table IS NOT NULL;
DO $$
DECLARE
    counts text;
BEGIN
    IF (SELECT pg_get_constraintdef(oid) FROM pg_constraint
         WHERE conrelid = 'spillway.ledger'::regclass AND conname = 'ledger_balances') LIKE '%(rows = %' THEN
        RETURN;
    END IF;
    SELECT pg_get_constraintdef(oid) INTO counts FROM pg_constraint
     WHERE conrelid = 'spillway.ledger'::regclass AND conname = 'ledger_counts';
    -- Without `ledger_counts` for a moment: a wrong count of an earlier release stays on record.
    ALTER TABLE spillway.ledger DROP CONSTRAINT ledger_balances, DROP CONSTRAINT ledger_counts;
    UPDATE spillway.ledger SET rows = read;
    ALTER TABLE spillway.ledger ADD CONSTRAINT ledger_balances CHECK (rows = inserted + duplicates + quarantined);
    EXECUTE 'ALTER TABLE spillway.ledger ADD CONSTRAINT ledger_counts ' || counts;
END $$;

-- `part`: the row of an entry that became several, from 1 on; 0 for the whole entry.
ALTER TABLE spillway.quarantine ADD COLUMN IF NOT EXISTS part INT NOT NULL DEFAULT 0 CHECK (part >= 0);
DO $$
BEGIN
    IF (SELECT array_length(conkey, 1) FROM pg_constraint
         WHERE conrelid = 'spillway.quarantine'::regclass AND conname = 'quarantine_pkey') = 2 THEN
        ALTER TABLE spillway.quarantine
            DROP CONSTRAINT quarantine_pkey, ADD PRIMARY KEY (stream, entry_id, part);
    END IF;
END $$;

INSERT INTO spillway.schema_version (version, name) VALUES (9, 'tables_of_streams')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 10: progress of streams -------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

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

INSERT INTO spillway.schema_version (version, name) VALUES (10, 'progress_of_streams')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 11: found streams -------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- What the last scan of a large Redis found. Nothing is lost with these rows: the next drain scans.
-- `search`: SHA-256 of the server and the patterns. `names`: keys of Redis, which need not be text.
CREATE TABLE IF NOT EXISTS spillway.found_streams (
    search BYTEA PRIMARY KEY,
    names BYTEA[] NOT NULL,
    scanned_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);

INSERT INTO spillway.schema_version (version, name) VALUES (11, 'found_streams')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 12: load hours ----------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- What metrics and reports need to know about the past, although ranges of the ledger are merged after a day.

-- The loads of each hour whose rows in the ledger were merged; the others are still in the ledger, with `ranges` = 1.
-- `hour`: -infinity for everything before the oldest hour that is kept. `loads`: ranges, and what they counted.
-- `seconds`, `max_seconds`: how long they took, together and at most. `buckets`: how many took at most each bound of
-- `tasks/ledger/load_seconds.py`, each load counted once; the last number is of those above all bounds.
CREATE TABLE IF NOT EXISTS spillway.load_hours (
    stream INT NOT NULL REFERENCES spillway.streams,
    hour TIMESTAMPTZ NOT NULL,
    loads BIGINT NOT NULL,
    read BIGINT NOT NULL,
    inserted BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    quarantined BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    max_seconds REAL NOT NULL,
    buckets BIGINT[] NOT NULL,
    PRIMARY KEY (stream, hour)
);

-- When a run of each flow last succeeded. A drain that finds nothing new writes nothing else.
CREATE TABLE IF NOT EXISTS spillway.successes (
    flow TEXT PRIMARY KEY,
    succeeded_at TIMESTAMPTZ NOT NULL
);

-- `first_kind`: the kind with which the entry came into the quarantine, if a redrive was refused; null if `kind` is it.
ALTER TABLE spillway.quarantine ADD COLUMN IF NOT EXISTS first_kind TEXT;

INSERT INTO spillway.schema_version (version, name) VALUES (12, 'load_hours')
    ON CONFLICT DO NOTHING;
COMMIT;

-- version 13: redrives ------------------------------------------------------------------------------------------------

BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog;
DO $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('spillway schema')); END $$;

-- The rows that redrives added to tables: the ledger counts what drains inserted, and entries of the quarantine that
-- become rows later are in no range of it.

-- One row for each transaction of a redrive that inserted rows. The columns mean the same as in `spillway.ledger`.
CREATE TABLE IF NOT EXISTS spillway.redrives (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream INT NOT NULL REFERENCES spillway.streams,
    inserted BIGINT NOT NULL CHECK (inserted > 0),
    by_table JSONB,
    min_time TIMESTAMPTZ,
    redriven_by TEXT NOT NULL,
    redriven_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS redrives_stream ON spillway.redrives (stream);

INSERT INTO spillway.schema_version (version, name) VALUES (13, 'redrives')
    ON CONFLICT DO NOTHING;
COMMIT;
