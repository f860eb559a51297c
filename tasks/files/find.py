"""Which files a backfill reads: a path, a folder, a glob, or a URL of any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Format = Literal["ndjson", "csv", "parquet"]
Compression = Literal["gzip", "zstd"]


@dataclass(frozen=True)
class SourceFile:
    """A file to backfill.

    `path` in the file system `files`. `shown`: for people and for the record, absolute for a local file, else a URL
    without credentials. `compression`: of the whole file; None for Parquet, which compresses inside.
    """

    files: Any  # pyarrow.fs.FileSystem
    path: str
    shown: str
    format: Format
    compression: Compression | None


def find_files(source: str) -> list[SourceFile]:
    """The files that `source` stands for, in the order of their paths."""
    raise NotImplementedError
