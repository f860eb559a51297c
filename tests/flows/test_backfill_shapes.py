"""Files in all common shapes: unambiguous ones are loaded, others are refused without quoting them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas
import psycopg
import pytest

from flows.backfill import backfill
from flows.reconcile import reconcile
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tests.support.backfill_sources import COLUMNS, as_document, crossref_columns, csv_text, flat_columns, written
from tests.support.command_line import RunSpillway
from tests.support.oracle import crossref_rows, flat_rows, table_rows
from tests.support.results import backfill_counts
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")

Write = Callable[[Sequence[bytes]], bytes]


def frame(lines: Sequence[bytes]) -> bytes:
    text: str = pandas.DataFrame(map(crossref_columns, lines)).to_csv()
    return text.encode()


ACCEPTED: dict[str, Write] = {
    "crossref-array.json": lambda lines: b"[" + b",".join(lines) + b"]",
    "crossref-array.json.gz": lambda lines: gzip.compress(b"[\n" + b",\n".join(lines) + b"\n]\n"),
    "crossref-pretty.json": lambda lines: json.dumps([json.loads(line) for line in lines], indent=2).encode(),
    "crossref-jq.json": lambda lines: b"".join(
        json.dumps(json.loads(line), indent=2).encode() + b"\n" for line in lines
    ),
    "pandas.csv": frame,
}


@pytest.mark.usefixtures("wide_chunks")
@pytest.mark.parametrize("name", ACCEPTED)
def test_an_unambiguous_file_is_loaded(
    name: str, sample: Path, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(batch_rows=600)
    lines = sample.read_bytes().splitlines()
    path = written(tmp_path, name, ACCEPTED[name](lines))
    assert backfill_counts(backfill(path)) == (2_737, 2_654, 83, 0)
    assert table_rows(database) == crossref_rows(lines)
    assert backfill_counts(backfill(path)) == (0, 0, 0, 0)
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, 2_737, [])


SECRET = "geheim"
ENTRIES = [event(n, user_id=f"{SECRET} Zoë", properties=json.dumps({"x": SECRET})) for n in range(20)]
DOCUMENTS = [as_document(entry) for entry in ENTRIES]
CSV = csv_text(map(flat_columns, ENTRIES)).decode()


def with_semicolons() -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, delimiter=";")
    writer.writeheader()
    writer.writerows(map(flat_columns, ENTRIES))
    return text.getvalue().encode()


REFUSED = {
    "joined.json": (b"".join(DOCUMENTS), "several documents in the first line"),
    "commas.ndjson": (b",\n".join(DOCUMENTS) + b",\n", "a comma after the first document"),
    "rfc7464.json": (b"".join(b"\x1e" + one + b"\n" for one in DOCUMENTS), "JSON text sequences of RFC 7464"),
    "comma.json": (b"[" + b",".join(DOCUMENTS) + b",]", "found an empty element"),
    "cut.json": (b"[" + b",".join(DOCUMENTS), "found the end of the file"),
    "utf16.csv": (CSV.encode("utf-16"), "expected UTF-8, found UTF-16"),
    "utf16.ndjson": (b"\n".join(DOCUMENTS).decode().encode("utf-16-le"), "expected UTF-8, found UTF-16LE"),
    "latin1.csv": (
        CSV.encode("latin-1", "replace"),
        "row 1: expected UTF-8, found a letter followed by the byte 0xeb",
    ),
    "latin1.ndjson": (
        b"\n".join(json.dumps(json.loads(one), ensure_ascii=False).encode("latin-1", "replace") for one in DOCUMENTS),
        "row 1: expected UTF-8, found a letter followed by the byte 0xeb",
    ),
    "semicolon.csv": (with_semicolons(), "expected a comma between the names of the columns, found a semicolon"),
    "trailing.csv": (
        "\n".join(line + "," * bool(n) for n, line in enumerate(CSV.splitlines())).encode(),
        "found an extra empty value at the end of every record",
    ),
    "named.csv": (b"\n".join(DOCUMENTS), "found JSON; nothing was loaded; give the file a name in .ndjson"),
    "headless.csv": (CSV.partition("\n")[2].encode(), "found a time or a UUID in column 1 of the first line"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_with_its_cause_and_without_its_content(
    name: str, spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    data, message = REFUSED[name]
    path = written(tmp_path, name, data)
    code, out, err = spillway("backfill", path)
    assert code != 0
    assert message in " ".join((out + err).split())
    assert path in (out + err).replace("\n", "")
    assert SECRET not in out + err
    assert table_rows(database) == {}
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)


@pytest.mark.parametrize(("broken", "other"), [(b"user-\xff", "x"), (b"us\xe9r", "Zoë")])
def test_a_few_bytes_that_are_not_utf8_affect_only_their_rows(
    broken: bytes, other: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    entries = [event(n, user_id=f"{other}-{n}") for n in range(20)]
    data = csv_text(map(flat_columns, entries)).replace(f"{other}-2,".encode(), broken + b",")
    assert backfill_counts(backfill(written(tmp_path, "x.csv", data))) == (20, 19, 0, 1)
    assert table_rows(database) == flat_rows(entries[:2] + entries[3:])


def test_an_object_that_wraps_the_list_of_events_is_refused(database: psycopg.Connection, tmp_path: Path) -> None:
    with pytest.raises(Terminal, match="they have: 'events'; nothing was written"):
        backfill(written(tmp_path, "x.json", b'{"events": [' + b",".join(DOCUMENTS) + b"]}"))
    assert table_rows(database) == {}
