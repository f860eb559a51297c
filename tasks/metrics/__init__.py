"""What `spillway metrics` exports, read from the ledger, the catalog and Redis."""
