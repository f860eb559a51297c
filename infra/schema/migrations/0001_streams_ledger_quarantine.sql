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
