"""Find the files of a backfill and read their rows with the fields of a stream entry."""
