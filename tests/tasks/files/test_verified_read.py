"""Read files with their hash: compressed, broken, or changed during the read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from infra.errors.exceptions import Terminal, Transient
from tasks.columns.entries import MALFORMED
from tasks.files.find import SourceFile, find_files
from tasks.files.formats import parquet, read_buffer
from tasks.files.formats.read_rows import read_rows
from tasks.files.stored_bytes import StoredBytes, open_unpacked
from tasks.files.verified_read import VerifiedRead
from tests.support.source_files import PACKED, as_unprivileged_user, fields_of, written

DOCUMENTS = [{"id": i, "text": "ünï\n" * (i % 5)} for i in range(300)]
NDJSON = b"".join(orjson.dumps(document) + b"\n" for document in DOCUMENTS)
LINES = {number: {b"data": line} for number, line in enumerate(NDJSON.splitlines(), 1)}


def as_csv() -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["id", "text"])
    writer.writeheader()
    writer.writerows(DOCUMENTS)
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_buffer, "_BLOCK_BYTES", 512)
    monkeypatch.setattr(parquet, "_BLOCK_BYTES", 512)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 64)


def contents(path: Path) -> list[dict[str, str]]:
    """The rows of a file in one form for all formats. Empty text equals null."""
    found = fields_of(read_rows(find_files(str(path))[0]))
    assert list(found) == list(range(1, len(found) + 1))
    fields = [orjson.loads(row[b"data"]) if b"data" in row else row for row in found.values()]
    return [
        {
            str(k, "utf-8") if isinstance(k, bytes) else k: v.decode() if isinstance(v, bytes) else str(v)
            for k, v in row.items()
            if v != ""
        }
        for row in fields
    ]


@pytest.mark.parametrize(
    ("name", "make", "packing"),
    [
        *(("x.ndjson", lambda: NDJSON, packing) for packing in PACKED),
        *(("x.csv", as_csv, packing) for packing in PACKED),
        ("x.parquet", as_parquet, ""),
    ],
)
def test_all_formats_give_the_same_rows_and_the_hash_of_their_bytes(
    tmp_path: Path, name: str, make: Callable[[], bytes], packing: str
) -> None:
    data = PACKED[packing](make())
    file = written(tmp_path / (name + packing), data)
    expected = [{k: str(v) for k, v in document.items() if v != ""} for document in DOCUMENTS]
    if name == "x.parquet":  # has empty texts
        expected = [{"id": str(d["id"]), "text": str(d["text"])} for d in DOCUMENTS]
    assert contents(tmp_path / (name + packing)) == expected
    reading = VerifiedRead(file)
    assert reading.keys == {"x.ndjson": (b"data",), "x.csv": (b"id", b"text", MALFORMED)}.get(name, (b"id", b"text"))
    assert fields_of(reading) == fields_of(read_rows(file)) == fields_of(reading)
    assert (reading.size, reading.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4), st.sampled_from([".gz", ".zst"]))
def test_compressed_files_may_be_concatenated(parts: list[bytes], packing: str) -> None:
    """Several gzip members or zstd frames in a row are one file, like for gunzip and zstd."""
    path = f"memory://joined/x.ndjson{packing}"
    with fsspec.open(path, "wb") as out:
        out.write(b"".join(map(PACKED[packing], parts)))
    (file,) = find_files(path)
    expected = b"".join(parts)
    buffer = bytearray(len(expected) + 1)
    stored = StoredBytes(file)
    fill = open_unpacked(file, stored)
    count = 0
    while more := fill(memoryview(buffer)[count:]):
        count += more
    assert buffer[:count] == expected
    assert stored.size == sum(len(PACKED[packing](part)) for part in parts)


def test_a_line_is_stored_in_the_requested_field(tmp_path: Path) -> None:
    (rows,) = read_rows(written(tmp_path / "x.json", b"{}"), b"document")
    assert rows.keys == (b"document",)


def test_a_url_is_read_like_a_path() -> None:
    with fsspec.open("memory://reading/x.ndjson.gz", "wb") as out:
        out.write(gzip.compress(NDJSON))
    (file,) = find_files("memory://reading/x.ndjson.gz")
    reading = VerifiedRead(file)
    assert fields_of(reading) == LINES
    assert reading.size == len(gzip.compress(NDJSON))
    with fsspec.open("memory://reading/x.parquet", "wb") as out:
        out.write(as_parquet())
    (file,) = find_files("memory://reading/x.parquet")
    assert len(fields_of(VerifiedRead(file))) == len(DOCUMENTS)


BROKEN = {
    "cut.ndjson.gz": (
        gzip.compress(NDJSON)[:-20],
        "expected gzip, found it truncated or corrupt: .*; fetch or write the file",
    ),
    "plain.ndjson.gz": (NDJSON, "expected gzip, found it truncated or corrupt"),
    "empty.ndjson.gz": (b"", "expected gzip, found an empty file"),
    "flipped.csv.gz": (
        gzip.compress(as_csv())[:-6] + b"\0" + gzip.compress(as_csv())[-5:],
        "expected gzip, found it truncated",
    ),
    "cut.csv.zst": (PACKED[".zst"](as_csv())[:-20], "expected zstd, found it truncated or corrupt"),
    "plain.csv.zst": (as_csv(), "expected zstd, found it truncated or corrupt"),
    "empty.csv.zst": (b"", "expected zstd, found an empty file"),
    "cut.parquet": (as_parquet()[:-20], "expected Parquet, found it truncated or corrupt"),
    "plain.parquet": (NDJSON, "expected Parquet, found it truncated or corrupt"),
    "empty.parquet": (b"", "expected Parquet, found it truncated or corrupt"),
    "pages.parquet": (
        as_parquet()[:100] + b"\xff" * 400 + as_parquet()[500:],
        "expected Parquet, found it truncated or corrupt",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    data, message = BROKEN[name]
    file = written(tmp_path / name, data)
    for read in (lambda: list(read_rows(file)), lambda: list(VerifiedRead(file))):
        with pytest.raises(Terminal, match=f"^backfill: {tmp_path}/{name}: {message}"):
            read()


def test_rows_before_a_break_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson.gz"
    file = written(path, gzip.compress(NDJSON)[:-20])
    seen = []
    with pytest.raises(Terminal):
        seen.extend(read_rows(file))
    found = fields_of(seen)
    assert found
    assert found.items() <= LINES.items()


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv.gz", "x.parquet"])
def test_an_unreadable_file_is_reported(open_folder: Path, name: str) -> None:
    file = written(open_folder / name, b"")
    (open_folder / name).chmod(0)
    for read in (lambda: list(read_rows(file)), lambda: list(VerifiedRead(file))):
        with as_unprivileged_user(), pytest.raises(Terminal, match=f"{name}: expected a readable file, .*chmod"):
            read()


@pytest.mark.parametrize("name", ["x.ndjson", "x.csv.gz", "x.parquet"])
def test_a_removed_file_is_reported(tmp_path: Path, name: str) -> None:
    file = written(tmp_path / name, b"")
    (tmp_path / name).unlink()
    for read in (lambda: list(read_rows(file)), lambda: list(VerifiedRead(file))):
        with pytest.raises(
            Terminal,
            match=f"{name}: expected the file found earlier, found that it was removed; nothing was loaded; put it",
        ):
            read()


def test_a_temporary_error_of_the_location_is_transient() -> None:
    """The first page of /proc/PID/mem cannot be read: EIO, like from a failing disk."""
    path = f"/proc/{os.getpid()}/mem"
    file = SourceFile(fs.LocalFileSystem(), path, path, "ndjson", None)
    with pytest.raises(Transient, match=f"^backfill: {path}: .*; it is retried"):
        list(read_rows(file))


def grow(path: Path) -> None:
    with path.open("ab") as out:
        out.write(b"\n")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace(path: Path) -> None:
    """Replace the file by another one of the same size."""
    data = path.read_bytes()
    (path.parent / "new").write_bytes(data)
    os.utime(path.parent / "new", ns=(1, 1))
    (path.parent / "new").replace(path)


@pytest.mark.parametrize("harm", [grow, cut, replace])
@pytest.mark.parametrize("name", ["x.ndjson", "x.ndjson.gz", "x.csv", "x.parquet"])
def test_a_file_that_changes_during_the_read_is_refused(
    tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    noise = b"".join(b"%s\n" % os.urandom(40).hex().encode() for _ in range(5000))
    data = {"x.csv": b"x\n" + noise, "x.parquet": as_parquet(), "x.ndjson.gz": gzip.compress(noise)}.get(name, noise)
    file = written(path, data)
    reading = VerifiedRead(file)
    blocks = iter(reading)
    next(blocks)
    harm(path)
    with pytest.raises(Terminal, match=f"{name}: expected a file that nobody writes to, found that it changed"):
        list(blocks)
    assert reading.sha256 == ""


def test_a_file_that_changes_before_the_read_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "x.ndjson", NDJSON)
    reading = VerifiedRead(file)
    grow(tmp_path / "x.ndjson")
    with pytest.raises(Terminal, match="found that it changed"):
        list(reading)


def test_a_file_that_is_removed_during_the_read_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "x.ndjson", NDJSON)
    blocks = iter(VerifiedRead(file))
    next(blocks)
    (tmp_path / "x.ndjson").unlink()
    with pytest.raises(Terminal, match="found that it was removed"):
        list(blocks)
