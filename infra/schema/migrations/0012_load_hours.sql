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
