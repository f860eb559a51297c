"""Old chunks as Parquet files with a manifest: written, verified, and only then dropped from the database."""
