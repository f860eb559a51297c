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
