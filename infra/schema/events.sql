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
