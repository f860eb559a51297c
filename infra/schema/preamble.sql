-- Refuse a server or a database that Spillway cannot work with, before anything is created.
DO $$
DECLARE
    version text;
BEGIN
    IF current_setting('server_version_num')::int < @MIN_POSTGRES@ * 10000 THEN
        RAISE EXCEPTION 'this server is PostgreSQL %, expected @MIN_POSTGRES@ or later', current_setting('server_version')
            USING HINT = 'upgrade it, or use another server (spillway up)';
    END IF;
    SELECT coalesce(installed_version, default_version) INTO version
      FROM pg_available_extensions WHERE name = 'timescaledb';
    -- Null on a server without TimescaleDB: its tables are plain or partitioned.
    IF string_to_array(split_part(version, '-', 1), '.')::int[] < string_to_array('@MIN_TIMESCALEDB@', '.')::int[] THEN
        RAISE EXCEPTION 'TimescaleDB % is older than @MIN_TIMESCALEDB@, and 2.17 can lose rows silently in'
            ' INSERT ... ON CONFLICT (timescaledb issue 7672)', version
            USING HINT = 'install TimescaleDB @MIN_TIMESCALEDB@ or later, then ALTER EXTENSION timescaledb UPDATE';
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
    IF found > @VERSION@ THEN
        RAISE EXCEPTION 'the schema of this database is newer than this release of Spillway: expected version @VERSION@ or earlier,'
            ' found %', found
            USING HINT = 'nothing was changed; upgrade Spillway';
    END IF;
END $$;
