"""Files to backfill: found, and read as columns of fields such as a stream's entries have."""
