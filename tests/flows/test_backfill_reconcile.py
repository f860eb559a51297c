"""Reconciliation of files that were backfilled: what is wrong is found, and a missing file is a note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import as_document, csv_text, flat_columns, ndjson, parquet, written
from tests.support.command_line import RunSpillway
from tests.support.ledger_edits import edit_ledger
from tests.support.oracle import flat_rows, table_rows
from tests.support.results import findings_of, ledger_of_file
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")

ENTRIES = [event(n) for n in range(60)]
FORMS = {
    "x.ndjson": ndjson(map(as_document, ENTRIES)),
    "x.csv": csv_text(map(flat_columns, ENTRIES)),
    "x.parquet": parquet(map(flat_columns, ENTRIES)),
}


@pytest.mark.parametrize("form", FORMS)
def test_changes_to_the_table_are_found_and_missing_rows_are_put_back(
    form: str, database: psycopg.Connection, tmp_path: Path
) -> None:
    ledger_name = ledger_of_file(backfill(written(tmp_path, form, FORMS[form])))
    for n in (3, 44):
        database.execute("DELETE FROM events WHERE event_id = %s", [ENTRIES[n][b"event_id"].decode()])
    database.execute("UPDATE events SET user_id = 'x' WHERE event_id = %s", [ENTRIES[10][b"event_id"].decode()])
    result = reconcile(ledger_name, deep=True, fail=False)
    assert findings_of(result) == [("different", 1), ("missing", 2)]
    different, missing = result["findings"]
    assert [one.split("-")[1] for one in missing["ids"].split(", ")] == ["4", "45"]  # rows of the file
    assert different["ids"].split("-")[1] == "11"
    database.execute("DELETE FROM events WHERE user_id = 'x'")
    assert reconcile(ledger_name, deep=True, repair=True)["repaired"] == 3
    assert table_rows(database) == flat_rows(ENTRIES)


def test_a_missing_or_changed_file_is_a_note_and_not_a_finding(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = Path(written(tmp_path, "x.csv", FORMS["x.csv"]))
    ledger_name = ledger_of_file(backfill(str(path)))
    path.write_bytes(FORMS["x.csv"] + b"\n,,,,\n")
    found = reconcile("file:*", deep=True)
    assert (found["balanced"], found["compared"]) == (True, 0)
    assert found["notes"] == [note_of(path, "it has changed since it was loaded", ledger_name)]
    path.write_bytes(b"")
    fault = "expected a header with the names of the columns, found an empty file"
    assert reconcile("file:*", deep=True)["notes"] == [note_of(path, fault, ledger_name)]
    path.unlink()
    fault = "expected a file, a folder or a glob, found no such path"
    assert reconcile("file:*", deep=True)["notes"] == [note_of(path, fault, ledger_name)]
    assert reconcile("file:*")["notes"] == []
    code, out, _ = spillway("reconcile", "--stream", ledger_name, "--deep")
    assert code == 0
    assert f"note: {path} is not compared" in out
    assert "everything balances" in out


def note_of(path: Path, fault: str, ledger_name: str) -> str:
    """The note about a file that cannot be compared: it advises about `reconcile`, not about the step that failed."""
    return (
        f"{path} is not compared: {fault}; only its totals are checked; put back the file that was loaded, then run"
        f" `spillway reconcile --stream {ledger_name} --deep`"
    )


def test_an_edited_ledger_of_a_file_does_not_balance(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, "x.csv", FORMS["x.csv"])
    ledger_name = ledger_of_file(backfill(path))
    edit_ledger(database, "UPDATE spillway.ledger SET read = 50, rows = 50, inserted = 50")
    assert findings_of(reconcile(ledger_name, fail=False)) == [("stream does not balance", 1)]
    edit_ledger(database, "DELETE FROM spillway.ledger")
    assert findings_of(reconcile(ledger_name, fail=False)) != []
    assert backfill(path)["duplicates"] == 60
    assert reconcile(ledger_name, deep=True)["balanced"]
    assert spillway("reconcile", "--stream", ledger_name)[0] == 0


def test_a_ledger_that_covers_a_file_but_not_all_of_its_rows_is_reported(
    database: psycopg.Connection, tmp_path: Path
) -> None:
    path = written(tmp_path, "x.csv", FORMS["x.csv"])
    backfill(path)
    edit_ledger(database, "UPDATE spillway.ledger SET read = read - 1, rows = rows - 1, inserted = inserted - 1")
    with pytest.raises(Terminal, match=r"x\.csv: expected 60 rows in the ledger of file:\w+, found 59: the books do"):
        backfill(path)


def test_a_stream_with_a_name_like_that_of_a_file_is_a_stream(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    """Names with a colon are usual in Redis. Its mapping is by its name, and it is compared with Redis."""
    mapping = tmp_path / "spillway.toml"
    columns = 'layout = "flat"\nevent_id = "event_id"\nevent_type = "event_type"\nuser_id = "user_id"\n'
    mapping.write_text(f'[streams."file:*"]\n{columns}properties = "properties"\ntime = "sent"\n')
    configure(mappings=mapping)
    entries = [{(b"sent" if name == b"time" else name): value for name, value in one.items()} for one in ENTRIES]
    send(redis_client, "file:uploads", [*entries, event(100)])
    assert drain("file:*")["quarantined"] == 1
    found = reconcile("file:*", deep=True)
    assert (found["balanced"], found["compared"], found["notes"]) == (True, 61, [])
    redriven = redrive("file:uploads", set={"sent": "2026-11-20T10:01:40Z"})
    assert (redriven["inserted"], redriven["still_bad"]) == (1, 0)
    assert table_rows(database) == flat_rows([*ENTRIES, event(100)])
