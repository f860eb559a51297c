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
