-- The identity of this database: its consumer group in Redis is named after it. Everybody may read it.
CREATE TABLE IF NOT EXISTS spillway.instance (
    single BOOLEAN PRIMARY KEY DEFAULT true CHECK (single),
    id UUID NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO spillway.instance DEFAULT VALUES ON CONFLICT DO NOTHING;
GRANT SELECT ON spillway.instance TO PUBLIC;
