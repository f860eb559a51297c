-- What the last scan of a large Redis found. Nothing is lost with these rows: the next drain scans.
-- `search`: SHA-256 of the server and the patterns. `names`: keys of Redis, which need not be text.
CREATE TABLE IF NOT EXISTS spillway.found_streams (
    search BYTEA PRIMARY KEY,
    names BYTEA[] NOT NULL,
    scanned_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
