-- No count is negative. If an earlier release wrote a wrong one, it stays on record, and only new rows are checked.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('spillway.ledger', 'ledger_counts',
         'ranges > 0 AND read >= 0 AND inserted >= 0 AND duplicates >= 0 AND quarantined >= 0 AND bytes >= 0 AND lost >= 0'),
        ('spillway.streams', 'streams_counts', 'lost >= 0'),
        ('spillway.files', 'files_counts', 'rows >= 0'),
        ('spillway.drops', 'drops_counts', 'rows >= 0 AND bytes >= 0')) AS checks (of_table, name, condition)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = wanted.of_table::regclass AND conname = wanted.name) THEN
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID',
                           wanted.of_table, wanted.name, wanted.condition);
        END IF;
        IF EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = wanted.of_table::regclass AND conname = wanted.name AND NOT convalidated) THEN
            BEGIN
                EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', wanted.of_table, wanted.name);
            EXCEPTION WHEN check_violation THEN
                RAISE WARNING '% has rows with counts below zero, written by an earlier release', wanted.of_table
                    USING HINT = 'see "counts below zero" in docs/operations.md';
            END;
        END IF;
    END LOOP;
END $$;
