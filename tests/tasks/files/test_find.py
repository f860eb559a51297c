"""Find the files that a source names, and explain a source that names none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from infra.errors.exceptions import Terminal
from tasks.files.find import find_files
from tests.support.source_files import as_unprivileged_user

NAMES = [
    "a.ndjson",
    "b.JSONL.gz",
    "b.csv",
    "notes.txt",
    "_part.csv",
    ".hidden.csv",
    "2024-01/c.json.zst",
    "2024-01/d.parquet",
    "2024-02/d.pq",
    "2024-02/deep/e.tsv.gzip",
    "_writing/f.csv",
    ".git/g.csv",
]
ALL = [
    "2024-01/c.json.zst",
    "2024-01/d.parquet",
    "2024-02/d.pq",
    "2024-02/deep/e.tsv.gzip",
    "a.ndjson",
    "b.JSONL.gz",
    "b.csv",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


@pytest.fixture
def in_memory() -> Iterator[str]:
    """The same files in an fsspec file system."""
    url = "memory://found/data"
    files = fsspec.filesystem("memory")
    for name in NAMES:
        files.pipe(f"/found/data/{name}", b"")
    yield url
    files.rm("/found", recursive=True)


def below(source: str, base: str) -> list[str]:
    return [file.display_name.removeprefix(f"{base}/") for file in find_files(source)]


GLOBS = {
    "*.csv": ["b.csv"],
    "b.*": ["b.JSONL.gz", "b.csv"],
    "?.ndjson": ["a.ndjson"],
    "[ab].ndjson": ["a.ndjson"],
    "[!a].csv": ["b.csv"],
    "*/d.p*": ["2024-01/d.parquet", "2024-02/d.pq"],
    "**/*.p*q*": ["2024-01/d.parquet", "2024-02/d.pq"],
    "**": ALL,
    "**/deep/*": ["2024-02/deep/e.tsv.gzip"],
    "2024-0*": ALL[:4],
    "2024-02/**/e.*": ["2024-02/deep/e.tsv.gzip"],
    "_*.csv": ["_part.csv"],
    "_writing/*": ["_writing/f.csv"],
}


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_matches_like_in_a_shell(folder: Path, pattern: str) -> None:
    assert below(f"{folder}/{pattern}", str(folder)) == GLOBS[pattern]
    assert below(f"file://{folder}/{pattern}", str(folder)) == GLOBS[pattern]


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_url_may_contain_a_glob(in_memory: str, pattern: str) -> None:
    assert below(f"{in_memory}/{pattern}", in_memory) == GLOBS[pattern]


def test_a_folder_names_all_its_files_except_hidden_ones(folder: Path, in_memory: str) -> None:
    assert below(str(folder), str(folder)) == ALL
    assert below(f"{folder}/", str(folder)) == ALL
    assert below(f"file://{folder}", str(folder)) == ALL
    assert below(in_memory, in_memory) == ALL


def test_a_relative_path_is_shown_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [file.display_name for file in find_files("a.ndjson")] == [f"{folder}/a.ndjson"]
    assert below("*", str(folder)) == ALL


def test_the_name_implies_format_and_compression(folder: Path) -> None:
    assert [(file.format, file.compression, file.delimiter) for file in find_files(str(folder))] == [
        ("ndjson", "zstd", b","),
        ("parquet", None, b","),
        ("parquet", None, b","),
        ("csv", "gzip", b"\t"),
        ("ndjson", None, b","),
        ("ndjson", "gzip", b","),
        ("csv", None, b","),
    ]


def test_a_hidden_file_is_read_if_it_is_named(folder: Path) -> None:
    assert below(f"{folder}/_part.csv", str(folder)) == ["_part.csv"]
    assert below(f"{folder}/_writing", str(folder)) == ["f.csv"] or below(
        f"{folder}/_writing", f"{folder}/_writing"
    ) == ["f.csv"]


@pytest.mark.parametrize("name", ["a[1].csv", "what?.csv", "a b.csv", "ü*.csv", "50%.csv"])
def test_an_existing_file_wins_over_a_glob(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "a1.csv").touch()
    (file,) = find_files(f"{tmp_path}/{name}")
    assert file.path == f"{tmp_path}/{name}"


def test_circular_links_end(folder: Path) -> None:
    (folder / "2024-01" / "back").symlink_to(folder)
    (folder / "linked").symlink_to(folder / "2024-02")
    assert below(str(folder), str(folder)) == sorted([*ALL, "linked/d.pq", "linked/deep/e.tsv.gzip"])


def test_each_file_of_a_glob_is_listed_once(folder: Path) -> None:
    assert below(f"{folder}/**/**/*.csv", str(folder)) == ["b.csv"]


KNOWN = (
    r"a name that ends with .ndjson, .jsonl, .json, .geojson, .csv, .tsv, .parquet, .pq, or with .gz, .gzip, .zst,"
    r" .zstd after"
)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "expected a source, found an empty text; name a path, a folder, a glob or a URL"),
        (
            "{}/gone.csv",
            "{}/gone.csv: expected a file, a folder or a glob, found no such path; nothing was loaded; cor",
        ),
        ("{}/gone/*.csv", r"{}/gone/\*.csv: expected files that match that glob, found none"),
        ("{}/*.pdf", r"{}/\*.pdf: expected files that match that glob, found none"),
        ("{}/empty", "{}/empty: expected files in that folder, found none .names that begin with _ or . are skip"),
        (
            "{}/notes.txt",
            "{}/notes.txt: expected " + KNOWN + " one that is not Parquet, found 'notes.txt'; .*; convert",
        ),
        ("{}/*.txt", r"{}/\*.txt: expected " + KNOWN + ".*found 1 other files, such as 'notes.txt'"),
        ("{}/pipe.csv", "{}/pipe.csv: expected a file, a folder or a glob, found a device, a pipe or a socket"),
        ("file://{}/gone.csv", "found no such path"),
        ("memory://nowhere/x.csv", "memory://nowhere/x.csv: expected .* found no such path"),
        ("memory://nowhere/*.csv", "expected files that match that glob, found none"),
        (
            "nosuch://somewhere/x.csv",
            "nosuch://somewhere/x.csv cannot be opened: Protocol not known: nosuch; .*; correct",
        ),
    ],
)
def test_a_source_without_files_is_refused(folder: Path, source: str, message: str) -> None:
    (folder / "empty" / "_only").mkdir(parents=True)
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(Terminal, match="^backfill: .*" + message.replace("{}", str(folder))):
        find_files(source.replace("{}", str(folder)))


def test_a_compressed_parquet_file_is_of_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "x.parquet.gz").touch()
    with pytest.raises(Terminal, match=r"found 'x\.parquet\.gz'"):
        find_files(str(tmp_path / "x.parquet.gz"))


def test_credentials_are_not_shown() -> None:
    for url in ("nosuch://user:secret@host/x.csv", "nosuch://host/x.csv?key=secret", "http://host/x.csv?secret"):
        with pytest.raises(Terminal) as caught:
            find_files(url)
        assert "secret" not in str(caught.value)


def test_an_unreadable_folder_is_reported(open_folder: Path) -> None:
    inner = open_folder / "inner"
    inner.mkdir()
    (inner / "x.csv").touch()
    inner.chmod(0)
    for source in (inner, open_folder, f"{inner}/x.csv", f"{open_folder}/*/x.csv"):
        with as_unprivileged_user(), pytest.raises(Terminal, match=r"Permission denied.*; fix its permissions"):
            find_files(str(source))
