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
