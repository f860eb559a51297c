"""Files of history to backfill, and what a paused backfill was doing according to the database."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from infra.producers.generate import as_document

Entry = dict[bytes, bytes]

FIELDS = ("event_id", "event_type", "user_id", "time", "properties")


def write(path: Path, entries: Sequence[Mapping[bytes, bytes]]) -> Path:
    """Write flat entries to a file; the name says in which format: .ndjson.gz, .csv or .parquet."""
    rows = [[entry[name.encode()].decode() for name in FIELDS] for entry in entries]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([FIELDS, *rows])
    elif path.suffix == ".parquet":
        columns = {name: [row[at] for row in rows] for at, name in enumerate(FIELDS)}
        pq.write_table(pa.table(columns), path)
    else:
        lines = (as_document(dict(entry))[b"data"] for entry in entries)
        path.write_bytes(gzip.compress(b"\n".join(lines) + b"\n", 1))
    return path


def ledger_totals(connection: psycopg.Connection) -> tuple[int, int, int, int]:
    """The sums of read, inserted, duplicates and quarantined over the whole ledger."""
    query = """
        SELECT coalesce(sum(read), 0)::bigint, coalesce(sum(inserted), 0)::bigint,
               coalesce(sum(duplicates), 0)::bigint, coalesce(sum(quarantined), 0)::bigint FROM spillway.ledger"""
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def events_of(connection: psycopg.Connection) -> int:
    """Rows in the table."""
    row = connection.execute("SELECT count(*) FROM events").fetchone()
    assert row is not None
    count: int = row[0]
    return count


def stage(connection: psycopg.Connection, read_before: int) -> str:
    """What a stopped backfill was doing. `read_before`: rows read in the ledger when it began."""
    query = """
        SELECT query FROM pg_stat_activity
         WHERE application_name = 'spillway backfill' AND datname = current_database()
           AND (xact_start IS NOT NULL OR state = 'active')"""
    at = [text.lower() for (text,) in connection.execute(query)]
    # Calls only: queries of the catalog contain these names, too.
    if any(
        call in text for text in at for call in ("convert_to_columnstore(", "compress_chunk(", "reindex ", "vacuum ")
    ):
        return "compressing"
    if at:
        return "within a slice"
    return "between slices" if ledger_totals(connection)[0] > read_before else "before its first slice"


def shuffled_days(entries: Iterable[Entry], parts: int) -> list[Entry]:
    """The entries dealt out to `days` groups, one group after the other. Each group spans the whole time."""
    found = list(entries)
    return [entry for part in range(parts) for entry in found[part::parts]]
