-- `own`: of a file of an archive, the columns besides Spillway's five whose values its rows have.
ALTER TABLE spillway.files ADD COLUMN IF NOT EXISTS own TEXT[];
