"""Archive old chunks as Parquet files with a manifest; a chunk is dropped only after its archive is verified."""
