"""What a backfill will do, before it does anything."""
