"""Read an archive back and compare it with its manifest, using nothing that the writer kept in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from infra.errors.redact import one_line
from tasks.archive.archive_root import ArchiveRoot, translate_errors
from tasks.archive.content_hash import Content, batch_content, day_bounds, sum_contents
from tasks.archive.copied_rows import time_us
from tasks.archive.manifest import (
    DAMAGED_ADVICE,
    ArchivedFile,
    BadArchive,
    Manifest,
    data_files,
    load_manifest,
    manifest_path,
)

_BATCH_ROWS = 50_000


def verify(root: ArchiveRoot, manifest: Manifest) -> None:
    """Compare every file with its manifest entry: size, hash, schema, order, rows, times and content.

    One batch is in memory. Raises `BadArchive` if a file differs or is missing, if a file with the archive's name is
    not listed, or if the stored manifest is not `manifest`. The error names the file, what was expected and what was
    found.
    """
    name = manifest.name
    listed = {file.path for file in manifest.files}
    with translate_errors(f"verify {name}", root):
        if load_manifest(root, name) != manifest:
            raise _bad(name, manifest_path(root.folder, name), "the manifest being verified", "another one")
        for path in data_files(root, manifest.chunk):
            if path.endswith(f"/{name}.parquet") and path not in listed:
                raise _bad(name, path, "no such file, since the manifest does not list it", "one")
        content = sum_contents(_verify_file(root, manifest, file) for file in manifest.files)
    found = (content.rows, content.min_time, content.max_time, content.hash)
    expected = (manifest.rows, manifest.min_time, manifest.max_time, manifest.content_hash)
    for what, wanted, there in zip(("rows", "first time", "last time", "content hash"), expected, found, strict=True):
        if wanted != there:
            raise _bad(name, "all files together", f"{what} {wanted}", there)


def read_archive(root: ArchiveRoot, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    """The rows of an archive, in the order of its manifest, in batches with the columns of its manifest.

    One batch is in memory. Raises `BadArchive` if a file is missing or cannot be read as Parquet. The content is not
    checked: see `verify`.
    """
    for file in manifest.files:
        yield from read_file(root, manifest, file)


def _verify_file(root: ArchiveRoot, manifest: Manifest, file: ArchivedFile) -> Content:
    name = manifest.name
    if root.files.get_file_info(root.path(file.path)).type != fs.FileType.File:
        raise _bad(name, file.path, f"a file of {file.bytes} bytes", "none")
    size, sha256 = root.fingerprint(file.path)
    if size != file.bytes:
        raise _bad(name, file.path, f"{file.bytes} bytes", size)
    if sha256 != file.sha256:
        raise _bad(name, file.path, f"sha256 {file.sha256}", sha256)
    content = Content()
    for batch in read_file(root, manifest, file):
        times = time_us(batch, manifest.time)
        if (np.diff(times) < 0).any() or (content.max_us is not None and len(times) and times[0] < content.max_us):
            raise _bad(name, file.path, "rows in the order of time", "another order")
        content += batch_content(batch, manifest.columns, manifest.time)
    if content.rows != file.rows:
        raise _bad(name, file.path, f"{file.rows} rows", content.rows)
    if content.hash != file.content_hash:
        raise _bad(name, file.path, f"content hash {file.content_hash}", content.hash)
    start, stop = day_bounds(manifest.chunk, file.day)
    first, last = content.min_time, content.max_time
    if first is None or last is None or first < start or last >= stop:
        raise _bad(name, file.path, f"times from {start} to before {stop}", f"{first} to {last}")
    return content


def read_file(root: ArchiveRoot, manifest: Manifest, file: ArchivedFile) -> Iterator[pa.RecordBatch]:
    """The rows of one file of an archive; see `read_archive`."""
    name = manifest.name
    try:
        with root.files.open_input_file(root.path(file.path)) as source, pq.ParquetFile(source) as parquet:
            schema = manifest.schema
            if not parquet.schema_arrow.equals(schema):
                expected, found = (
                    ", ".join(f"{f.name} {f.type}" for f in columns) for columns in (schema, parquet.schema_arrow)
                )
                raise _bad(name, file.path, f"the columns {expected}", found)
            yield from parquet.iter_batches(_BATCH_ROWS)
    except FileNotFoundError:
        raise _bad(name, file.path, f"a file of {file.bytes} bytes", "none") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        # For bytes that it cannot parse, pyarrow raises various errors, even OSError, but then without an errno.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _bad(name, file.path, "a Parquet file", f"none: {one_line(error)}") from error


def _bad(name: str, where: str, expected: str, found: Any) -> BadArchive:
    return BadArchive(f"archive {name}: {where}: expected {expected}, found {found}; {DAMAGED_ADVICE}")


def unlisted_files(root: ArchiveRoot, manifests: Iterable[Manifest]) -> list[str]:
    """Files of the root's table that no manifest lists.

    A run is writing them, a run was killed, or they are not Spillway's.
    """
    listed = {file.path for manifest in manifests for file in manifest.files}
    there = root.listed(root.folder, recursive=True)
    folder = manifest_path(root.folder, "").rpartition("/")[0]
    return sorted(path for path in there if path not in listed and not path.startswith(f"{folder}/"))
