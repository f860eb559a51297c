-- `accepted`: how many of the lost entries were accepted as lost; who accepted the last of them, and when.
ALTER TABLE spillway.streams
    ADD COLUMN IF NOT EXISTS accepted BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS accepted_by TEXT,
    ADD COLUMN IF NOT EXISTS accepted_at TIMESTAMPTZ;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = 'spillway.streams'::regclass AND conname = 'streams_accepted') THEN
        -- NOT VALID: a wrong count of an earlier release stays on record.
        ALTER TABLE spillway.streams ADD CONSTRAINT streams_accepted CHECK (accepted BETWEEN 0 AND lost) NOT VALID;
    END IF;
    BEGIN
        ALTER TABLE spillway.streams VALIDATE CONSTRAINT streams_accepted;
    EXCEPTION WHEN check_violation THEN
        RAISE WARNING 'spillway.streams has rows with counts below zero, written by an earlier release'
            USING HINT = 'see "counts below zero" in docs/operations.md';
    END;
END $$;
