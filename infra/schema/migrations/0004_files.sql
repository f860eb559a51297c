-- The files that were backfilled. Their rows are in the ledger under the stream `file:SHA-256` (of the file, and of the
-- columns in its path if it has some), with addresses `day-row`: the day of the event in ms since 1970 (0 without a time),
-- and the number of the row.
-- `path`: where the file was. `reading`: where its times came from. `skipped`: addresses left out as past retention.
CREATE TABLE IF NOT EXISTS spillway.files (
    stream INT PRIMARY KEY REFERENCES spillway.streams,
    path TEXT NOT NULL,
    mapping TEXT NOT NULL,
    reading TEXT NOT NULL,
    rows BIGINT NOT NULL,
    skipped NUMRANGE
);
CREATE INDEX IF NOT EXISTS files_path_idx ON spillway.files (path);
