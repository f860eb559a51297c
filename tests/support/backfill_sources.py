"""Events as files of every format that a backfill reads, written by libraries that Spillway does not read with."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.source_files import zstd

COLUMNS = ("time", "event_id", "event_type", "user_id", "properties")
Event = Mapping[bytes, bytes]


def crossref_columns(line: bytes) -> dict[str, str]:
    """The five columns of a real event, by the mapping in tests/data/README.md."""
    event = json.loads(line)
    return {
        "time": event["occurred_at"],
        "event_id": event["id"],
        "event_type": f"{event['source_id']}.{event['relation_type_id']}",
        "user_id": event.get("subj_id") or "unknown",
        "properties": line.decode(),
    }


def flat_columns(event: Event) -> dict[str, str]:
    """The columns that a flat entry has."""
    return {name.decode(): value.decode() for name, value in event.items()}


def as_document(event: Event) -> bytes:
    """A flat entry as a document with the same keys."""
    fields: dict[str, Any] = flat_columns(event)
    if "properties" in fields:
        fields["properties"] = json.loads(fields["properties"])
    return json.dumps(fields).encode()


def ndjson(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def csv_text(rows: Iterable[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: Iterable[Mapping[str, str | bytes]], **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink, **options)
    data: bytes = sink.getvalue().to_pybytes()
    return data


# File name → its content, made from lines of real events. A file with Spillway's columns needs no mapping, so its name
# matches none.
CROSSREF: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "crossref.ndjson": ndjson,
    "crossref.ndjson.gz": lambda lines: gzip.compress(ndjson(lines), 1),
    "crossref.ndjson.zst": lambda lines: zstd(ndjson(lines)),
    "history.csv": lambda lines: csv_text(map(crossref_columns, lines)),
    "history.parquet": lambda lines: parquet(map(crossref_columns, lines), row_group_size=500),
    "crossref-data.parquet": lambda lines: parquet({"data": line} for line in lines),
}


def written(folder: Path, name: str, data: bytes) -> str:
    """Write a new file; returns its path."""
    path = folder / name
    path.write_bytes(data)
    return str(path)


def file_sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
