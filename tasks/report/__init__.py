"""What `spillway report` shows: frames from the ledger and the catalog, drawn on one page."""
