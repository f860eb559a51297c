"""What a source stands for, and what is said where it stands for nothing."""

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
    """The same files in a file system of fsspec."""
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
def test_a_glob_takes_what_a_shell_would(folder: Path, pattern: str) -> None:
    assert below(f"{folder}/{pattern}", str(folder)) == GLOBS[pattern]
    assert below(f"file://{folder}/{pattern}", str(folder)) == GLOBS[pattern]


@pytest.mark.parametrize("pattern", GLOBS)
def test_a_glob_may_stand_in_a_url(in_memory: str, pattern: str) -> None:
    assert below(f"{in_memory}/{pattern}", in_memory) == GLOBS[pattern]


def test_a_folder_stands_for_all_files_in_it_but_the_hidden_ones(folder: Path, in_memory: str) -> None:
    assert below(str(folder), str(folder)) == ALL
    assert below(f"{folder}/", str(folder)) == ALL
    assert below(f"file://{folder}", str(folder)) == ALL
    assert below(in_memory, in_memory) == ALL


def test_a_relative_path_is_shown_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [file.display_name for file in find_files("a.ndjson")] == [f"{folder}/a.ndjson"]
    assert below("*", str(folder)) == ALL


def test_kind_and_packing_are_told_by_the_name(folder: Path) -> None:
    assert [(file.format, file.compression, file.delimiter) for file in find_files(str(folder))] == [
        ("ndjson", "zstd", b","),
        ("parquet", None, b","),
        ("parquet", None, b","),
        ("csv", "gzip", b"\t"),
        ("ndjson", None, b","),
        ("ndjson", "gzip", b","),
        ("csv", None, b","),
    ]


def test_a_hidden_file_that_is_named_is_taken(folder: Path) -> None:
    assert below(f"{folder}/_part.csv", str(folder)) == ["_part.csv"]
    assert below(f"{folder}/_writing", str(folder)) == ["f.csv"] or below(
        f"{folder}/_writing", f"{folder}/_writing"
    ) == ["f.csv"]


@pytest.mark.parametrize("name", ["a[1].csv", "what?.csv", "a b.csv", "ü*.csv", "50%.csv"])
def test_a_name_with_signs_of_a_glob_is_a_name_where_there_is_such_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "a1.csv").touch()
    (file,) = find_files(f"{tmp_path}/{name}")
    assert file.path == f"{tmp_path}/{name}"


def test_links_in_a_circle_end(folder: Path) -> None:
    (folder / "2024-01" / "back").symlink_to(folder)
    (folder / "linked").symlink_to(folder / "2024-02")
    assert below(str(folder), str(folder)) == sorted([*ALL, "linked/d.pq", "linked/deep/e.tsv.gzip"])


def test_files_of_one_glob_come_once(folder: Path) -> None:
    assert below(f"{folder}/**/**/*.csv", str(folder)) == ["b.csv"]


KNOWN = (
    r"a name that ends with .ndjson, .jsonl, .json, .csv, .tsv, .parquet, .pq, or with .gz, .gzip, .zst, .zstd after"
)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "expected a source, found none; name a path, a folder, a glob or a URL"),
        ("{}/gone.csv", "{}/gone.csv: expected a file, a folder or a glob, found nothing there; correct the source"),
        ("{}/gone/*.csv", r"{}/gone/\*.csv: expected files that fit that glob, found none"),
        ("{}/*.pdf", r"{}/\*.pdf: expected files that fit that glob, found none"),
        ("{}/empty", "{}/empty: expected files in that folder, found none: what begins with _ or . is left out; cor"),
        ("{}/notes.txt", "{}/notes.txt: expected " + KNOWN + " one that is not Parquet, found 'notes.txt'; convert"),
        ("{}/*.txt", r"{}/\*.txt: expected " + KNOWN + ".*found 1 other files, such as 'notes.txt'"),
        ("{}/pipe.csv", "{}/pipe.csv: expected a file, a folder or a glob, found a device, a pipe or a socket"),
        ("file://{}/gone.csv", "found nothing there"),
        ("memory://nowhere/x.csv", "memory://nowhere/x.csv: expected .* found nothing there"),
        ("memory://nowhere/*.csv", "expected files that fit that glob, found none"),
        ("nosuch://somewhere/x.csv", "nosuch://somewhere/x.csv cannot be opened: Protocol not known: nosuch; correct"),
    ],
)
def test_what_stands_for_nothing_is_said(folder: Path, source: str, message: str) -> None:
    (folder / "empty" / "_only").mkdir(parents=True)
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(Terminal, match="^backfill: .*" + message.replace("{}", str(folder))):
        find_files(source.replace("{}", str(folder)))


def test_a_parquet_file_that_is_packed_is_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "x.parquet.gz").touch()
    with pytest.raises(Terminal, match=r"found 'x\.parquet\.gz'"):
        find_files(str(tmp_path / "x.parquet.gz"))


def test_credentials_are_not_shown() -> None:
    for url in ("nosuch://user:secret@host/x.csv", "nosuch://host/x.csv?key=secret", "http://host/x.csv?secret"):
        with pytest.raises(Terminal) as caught:
            find_files(url)
        assert "secret" not in str(caught.value)


def test_a_folder_that_may_not_be_looked_into_is_said(open_folder: Path) -> None:
    inner = open_folder / "inner"
    inner.mkdir()
    (inner / "x.csv").touch()
    inner.chmod(0)
    for source in (inner, open_folder, f"{inner}/x.csv", f"{open_folder}/*/x.csv"):
        with as_unprivileged_user(), pytest.raises(Terminal, match=r"Permission denied.*; fix its permissions"):
            find_files(str(source))
