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
