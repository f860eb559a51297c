\set ON_ERROR_STOP on
-- Spillway's tables. Safe to apply again and again:  psql -d analytics -f schema.sql
-- One transaction: after a refusal nothing of it is there.

BEGIN;
SET LOCAL client_min_messages = warning;
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

CREATE EXTENSION IF NOT EXISTS timescaledb;

CREATE TABLE IF NOT EXISTS events (
    time TIMESTAMPTZ NOT NULL,
    event_id UUID NOT NULL,
    event_type TEXT NOT NULL,
    user_id TEXT NOT NULL,
    properties JSONB,
    PRIMARY KEY (event_id, time)
);

SELECT create_hypertable('events', 'time', if_not_exists => true);

CREATE INDEX IF NOT EXISTS events_event_type_time_idx ON events (event_type, time);
CREATE INDEX IF NOT EXISTS events_user_id_time_idx ON events (user_id, time);
CREATE INDEX IF NOT EXISTS events_properties_idx ON events USING gin (properties);

CREATE SCHEMA IF NOT EXISTS spillway;

-- One row a stream. `baseline` is entries-added when Spillway first saw the stream, less what was still in it:
-- entries-added at the tail - baseline = read + lost, at every settled tail.
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

-- What has been drained, committed with the events themselves. An entry id `ms-seq` is the number ms * 2^64 + seq.
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

-- Every entry that could not become a row, as it came: field names and values in turn.
CREATE TABLE IF NOT EXISTS spillway.quarantine (
    stream INT NOT NULL REFERENCES spillway.streams,
    entry_id TEXT NOT NULL,
    fields BYTEA[] NOT NULL,
    field TEXT,
    reason TEXT NOT NULL,
    quarantined_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, entry_id)
);

COMMIT;
