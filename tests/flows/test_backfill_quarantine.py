"""Rows of files that cannot be loaded: kept with file and row, listed, and replayed after the mapping is fixed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.backfill import backfill
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import Terminal
from infra.settings import Settings
from tests.support.backfill_sources import COLUMNS, as_document, csv_text, flat_columns, ndjson, parquet, written
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, table_rows
from tests.support.results import backfill_counts, redrive_counts
from tests.support.runs import failed_redrive
from tests.support.stream_entries import event
from tests.support.tables import redrive_outcomes
from tests.support.triggers import constraint

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]
GOOD = [event(n) for n in range(40)]
BAD = {4: event(101, user_id=""), 11: event(102, user_id=""), 41: event(103, user_id="")}  # by row, from 1 on
FIXED = [entry | {b"user_id": b"nobody"} for entry in BAD.values()]


def rows() -> list[dict[bytes, bytes]]:
    found = list(GOOD)
    for row, entry in BAD.items():
        found.insert(row - 1, entry)
    return found


FORMS: dict[str, Callable[[], bytes]] = {
    "clicks.ndjson": lambda: ndjson(map(as_document, rows())),
    "clicks.csv": lambda: csv_text(map(flat_columns, rows())),
    "clicks.parquet": lambda: parquet(dict.fromkeys(COLUMNS) | flat_columns(row) for row in rows()),
}


def mapping(folder: Path, layout: str, user: str) -> Path:
    path = folder / "spillway.toml"
    path.write_text(
        f'[streams."clicks*"]\nlayout = "{layout}"\ntime = "time"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        f'user_id = {user}\nproperties = "properties"\n'
    )
    return path


@pytest.mark.parametrize("form", FORMS)
def test_bad_rows_are_kept_by_file_and_row_and_replayed_when_the_mapping_is_fixed(
    form: str, spillway: RunSpillway, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    layout = "json" if form.endswith("ndjson") else "flat"
    configure(batch_rows=15, mappings=mapping(tmp_path, layout, '"user_id"'))
    path = written(tmp_path, form, FORMS[form]())
    assert backfill_counts(backfill(path)) == (43, 40, 0, 3)
    assert table_rows(database) == flat_rows(GOOD)
    assert backfill_counts(backfill(path)) == (0, 0, 0, 0)
    code, out, _ = spillway("quarantine", "list", "--entries", "--stream", path)
    assert code == 0
    assert path in out
    assert "3 waiting" in out
    for row in BAD:
        assert f"-{row} " in out
    code, out, _ = spillway("quarantine", "list", "--stream", path, "--json")
    kept = [json.loads(line) for line in out.splitlines()]
    assert {(one["path"], int(one["entry_id"].split("-")[1])) for one in kept} == {(path, row) for row in BAD}
    assert {(one["kind"], one["field"]) for one in kept} == {("refused", "user_id")}
    fields = dict(next(one for one in kept if one["entry_id"].endswith("-11"))["fields"])
    came = as_document(BAD[11]).decode() if layout == "json" else flat_columns(BAD[11])["event_id"]
    assert fields["data" if layout == "json" else "event_id"] == came
    assert reconcile("*", deep=True)["balanced"]

    assert failed_redrive(path) == (3, 0, 0, 3)
    configure(mappings=mapping(tmp_path, layout, '{ key = "user_id", default = "nobody" }'))
    assert redrive_counts(redrive(path)) == (3, 3, 0, 0)
    assert table_rows(database) == flat_rows([*GOOD, *FIXED])
    assert redrive_outcomes(database) == {"redriven": 3}
    found = reconcile("*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 43)


def test_a_row_is_edited_shown_and_discarded_by_its_file(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, "x.csv", FORMS["clicks.csv"]())
    backfill(path)
    ids = [i for (i,) in database.execute("SELECT entry_id FROM spillway.quarantine ORDER BY fields")]
    code, out, err = spillway("quarantine", "redrive", "--stream", path, ids[0], "--set", "user_id=anna", "--json")
    assert (code, json.loads(out)) == (0, {"tried": 1, "inserted": 1, "duplicates": 0, "still_bad": 0}), err
    assert spillway("quarantine", "discard", "--stream", path, "--all")[:2] == (0, "2 discarded\n")
    assert len(table_rows(database)) == 41
    assert redrive_outcomes(database) == {"redriven": 1, "discarded": 2}
    code, out, _ = spillway("quarantine", "show", ids[0], "--stream", path)
    shown = json.loads(out)
    assert (code, shown["path"], dict(shown["replayed"])["user_id"]) == (0, path, "anna")


def test_what_is_not_a_row_is_kept_unchanged(database: psycopg.Connection, tmp_path: Path) -> None:
    lines = [as_document(entry) for entry in GOOD[:5]]
    broken = [lines[0], b'{"event_id": ', lines[1], b"", b"\xff\xfe", b"[1, 2]", *lines[2:]]
    written(tmp_path, "a.ndjson", ndjson(broken))
    text = csv_text(map(flat_columns, GOOD[5:8])) + b"one,two\r\n" + b"1,2,3,4,5,6,7\r\n"
    written(tmp_path, "b.csv", text)
    assert backfill_counts(backfill(str(tmp_path))) == (13, 8, 0, 5)
    assert table_rows(database) == flat_rows(GOOD[:8])
    kept = database.execute(
        "SELECT f.path, q.entry_id, q.fields FROM spillway.quarantine AS q JOIN spillway.files AS f USING (stream)"
        " ORDER BY f.path, q.entry_id"
    ).fetchall()
    assert [(Path(path).name, entry, bytes(fields[1])) for path, entry, fields in kept] == [
        ("a.ndjson", "0-2", b'{"event_id": '),
        ("a.ndjson", "0-5", b"\xff\xfe"),
        ("a.ndjson", "0-6", b"[1, 2]"),
        ("b.csv", "0-4", b"one,two"),
        ("b.csv", "0-5", b"1,2,3,4,5,6,7"),
    ]
    reasons = database.execute("SELECT reason FROM spillway.quarantine WHERE field = '(malformed record)' ORDER BY 1")
    expected = "expected as many values as the header has names, found"
    assert reasons.fetchall() == [(f"{expected} '1,2,3,4,5,6,7'",), (f"{expected} 'one,two'",)]
    assert reconcile("*", deep=True)["balanced"]


def test_conflicts_with_the_table_and_within_a_file_are_kept(database: psycopg.Connection, tmp_path: Path) -> None:
    backfill(written(tmp_path, "a.csv", csv_text(map(flat_columns, GOOD[:10]))))
    other = [event(3, user_id="other"), event(50), event(50, user_id="other"), event(50)]
    result = backfill(written(tmp_path, "b.csv", csv_text(map(flat_columns, other))))
    assert backfill_counts(result) == (4, 1, 1, 2)
    assert table_rows(database) == flat_rows([*GOOD[:10], event(50)])
    found = database.execute("SELECT split_part(entry_id, '-', 2), kind FROM spillway.quarantine ORDER BY 1").fetchall()
    assert found == [("1", "conflict"), ("3", "conflict")]
    assert reconcile("*", deep=True)["balanced"]


def test_a_file_of_mostly_bad_rows_fails_with_the_commands_that_fix_it(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    """It ends once more than half of all rows are bad; loaded rows are on record, and the next run continues."""
    configure(batch_rows=20)
    entries = [event(n, **({"user_id": ""} if n % 4 else {})) for n in range(100)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    with pytest.raises(Terminal) as refused:
        backfill(path, parallel=1)
    message = str(refused.value)
    assert re.search(
        r"^backfill: (60|75) of 100 rows went to quarantine, expected at most 50% \(SPILLWAY_MAX_BAD_SHARE\): \1 × "
        r"user_id: missing field user_id; all are kept; .*; list .* \(spillway quarantine list --stream file:",
        message,
    )
    assert "drain" not in message
    assert "run the same backfill again" in message or "everything else is loaded" in message
    configure(max_bad_share=1)
    backfill(path)
    assert table_rows(database) == flat_rows(entries[::4])
    assert redrive_outcomes(database) == {"waits": 75}
    assert reconcile("*", deep=True)["balanced"]


def test_the_share_of_bad_rows_is_that_of_the_run_and_not_of_a_slice_or_a_file(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    """All rows of the first slices, and of the first file, are bad: a fifth of all."""
    configure(batch_rows=20)
    bad = [event(n, user_id="", time="2026-11-01T00:00:00Z") for n in range(60)]
    good = [event(1_000 + n) for n in range(240)]
    written(tmp_path, "a.csv", csv_text(map(flat_columns, [event(999), *bad])))
    written(tmp_path, "b.csv", csv_text(map(flat_columns, good)))
    code, out, err = spillway("backfill", str(tmp_path), "--parallel", "1")
    assert code == 0, err
    assert "60 rows wait in quarantine: 60 × user_id: missing field user_id" in out
    assert table_rows(database) == flat_rows([event(999), *good])
    assert redrive_outcomes(database) == {"waits": 60}


def test_errors_are_listed_by_their_cause_and_without_the_content_of_rows(
    database: psycopg.Connection, tmp_path: Path, configure: Configure
) -> None:
    """Conflicts, rejected rows and unreadable rows are reported separately."""
    configure(batch_rows=25)
    backfill(written(tmp_path, "before.csv", csv_text(map(flat_columns, [event(n) for n in range(20)]))))
    kinds = [{"user_id": "geheim-other"}, {"user_id": ""}, {"event_id": "geheim-id"}, {"event_type": "geheim"}]
    rows = [event(n if n < 20 else 100 + n, **kinds[n // 20]) for n in range(80)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, [*rows, event(999)])))
    rule = "event_type <> 'geheim'"
    with constraint(database, rule), pytest.raises(Terminal) as refused:
        backfill(path, parallel=2)
    message = str(refused.value)
    configure(max_bad_share=1)
    with constraint(database, rule):
        result = backfill(written(tmp_path, "y.csv", csv_text(map(flat_columns, [event(998), *rows]))))
    assert result["causes"] == {
        "conflict: the table has this event_id and time with another user_id": 20,
        "user_id: missing field user_id": 20,
        "event_id: expected a UUID": 20,
        "refused by the table [SQLSTATE 23514]": 20,
    }
    assert "of 81 rows went to quarantine" in message
    assert "× event_id: expected a UUID" in message
    assert "geheim" not in message
    assert "geheim" not in str(result["causes"])


def test_a_malformed_record_is_replayed_with_the_values_that_are_set(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, GOOD[:5])) + b"one,two\r\n")
    assert backfill_counts(backfill(path)) == (6, 5, 0, 1)
    assert failed_redrive(path) == (1, 0, 0, 1)
    values = [part for name, value in flat_columns(GOOD[5]).items() for part in ("--set", f"{name}={value}")]
    code, out, err = spillway("quarantine", "redrive", "--stream", path, "0-6", *values, "--json")
    assert (code, json.loads(out)) == (0, {"tried": 1, "inserted": 1, "duplicates": 0, "still_bad": 0}), err
    assert table_rows(database) == flat_rows(GOOD[:6])
    assert redrive_outcomes(database) == {"redriven": 1}
    assert reconcile("*", deep=True)["balanced"]
