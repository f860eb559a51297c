"""Every type of Parquet in a column of its own, and in one document of jsonb."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from flows.backfill import backfill
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.settings import Settings
from tests.support.arrow_types import arrow_cases, read_json
from tests.support.ledger_edits import edit_ledger
from tests.support.results import backfill_counts, findings_of, ledger_of_file

pytestmark = pytest.mark.usefixtures("prefect_server")

Alter = Callable[[str], None]
Configure = Callable[..., Settings]
CASES = arrow_cases()
DOCUMENTS = """
[streams."types.parquet".columns]
whole = { document = true }
rest = { unmapped = true }
"""


def parquet_file(folder: Path) -> Path:
    columns = {name: case.arrow for name, case in CASES.items()}
    path = folder / "types.parquet"
    pq.write_table(pa.table({"id": pa.array([1, 2, 3], pa.int32()), **columns}), path)
    return path


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def configured(configure: Configure, folder: Path, mapping: str) -> None:
    path = folder / "spillway.toml"
    path.write_text(mapping)
    configure(mappings=path)


def digits(value: Any) -> Any:
    """The value with each number as its digits, so that 5.10 and 5.1 differ."""
    if isinstance(value, dict):
        return {key: digits(one) for key, one in value.items()}
    if isinstance(value, list):
        return [digits(one) for one in value]
    return ("number", format(value, "f")) if isinstance(value, Decimal) else value


def texts_of(database: psycopg.Connection, column: str) -> list[str | None]:
    query = sql.SQL("SELECT {}::text FROM users.types ORDER BY id").format(sql.Identifier(column))
    return [text for (text,) in database.execute(query)]


@pytest.fixture
def typed_table(alter: Alter) -> str:
    """A table with a column for each case, and one for the whole document."""
    columns = ", ".join(f"{quoted(name)} {case.column}" for name, case in CASES.items())
    alter("CREATE TYPE users.mood AS ENUM ('happy', 'sad')")
    alter(f"CREATE TABLE users.types (id int PRIMARY KEY, {columns}, whole jsonb, rest jsonb)")
    return "users.types"


def test_every_type_keeps_its_value_in_a_column_and_in_a_document(
    typed_table: str, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    configured(configure, tmp_path, f'[streams."types.parquet"]\ntable = "{typed_table}"\n{DOCUMENTS}')
    path = parquet_file(tmp_path)
    done = backfill(str(path))
    assert backfill_counts(done) == (3, 3, 0, 0)
    database.execute("SET timezone = 'UTC'")
    assert {name: texts_of(database, name) for name in CASES} == {n: [*case.texts, None] for n, case in CASES.items()}
    rows = database.execute("SELECT whole::text, rest::text FROM users.types ORDER BY id").fetchall()
    for number, (whole, rest) in enumerate(rows):
        found = digits(read_json(whole))
        assert found.pop("id") == ("number", str(number + 1))
        expected = {name: case.members[number] for name, case in CASES.items()} if number < 2 else {}
        assert found == digits(expected)
        assert rest == "{}"
    result = reconcile(ledger_of_file(done), deep=True)
    assert (result["balanced"], result["compared"], result["notes"]) == (True, 3, [])
    assert backfill_counts(backfill(str(path), again=True)) == (3, 0, 3, 0)


START = datetime(2026, 11, 1, tzinfo=UTC)
MAPPING = """
[streams."readings.parquet"]
layout = "flat"
time = "at"
event_id = "id"
event_type = "kind"
user_id = "who"
"""
ROWS = 40


def readings(folder: Path, who: str | None = "me") -> str:
    """A file for `events`, whose properties are the whole row. `who`: of its first row."""
    n = range(ROWS)
    columns = {
        "at": pa.array([START + timedelta(hours=6 * i) for i in n], pa.timestamp("ms", "UTC")),
        "id": pa.array([UUID(int=i).bytes for i in n], pa.uuid()),
        "kind": ["reading"] * ROWS,
        "who": pa.array([who, *["me"] * (ROWS - 1)], pa.string()),
        "n": pa.array(n, pa.int64()),
        "ok": [i % 2 == 0 for i in n],
        "list": pa.array([[i / 4, nan] for i in n], pa.list_(pa.float64())),
        "price": pa.array([Decimal(i) for i in n], pa.decimal128(9, 2)),
    }
    pq.write_table(pa.table(columns), folder / "readings.parquet")
    return str(folder / "readings.parquet")


def document(i: int, who: str = "me") -> dict[str, Any]:
    at = f"{START + timedelta(hours=6 * i):%Y-%m-%dT%H:%M:%SZ}"
    texts = {"at": at, "id": str(UUID(int=i)), "kind": "reading", "who": who}
    return texts | {"n": i, "ok": i % 2 == 0, "list": [i / 4, "NaN"], "price": float(i)}


def document_of_texts(i: int) -> dict[str, Any]:
    """The document as the first release made it."""
    typed = document(i)
    numbers = {"n": str(i), "ok": str(i % 2 == 0).lower(), "list": f"[{i / 4},null]", "price": f"{i}.00"}
    return typed | numbers


def documents_of(database: psycopg.Connection) -> list[dict[str, Any]]:
    return [found for (found,) in database.execute("SELECT properties FROM events ORDER BY event_id")]


def as_the_first_release(database: psycopg.Connection) -> None:
    """Turn what was loaded into what the first release would have loaded."""
    for i in range(ROWS):
        values = [json.dumps(document_of_texts(i)), UUID(int=i)]
        database.execute("UPDATE events SET properties = %s WHERE event_id = %s", values)
    assert database.execute("UPDATE spillway.files SET reading = 'flat|at||'").rowcount == 1


def test_a_file_that_the_first_release_loaded_still_compares_equal(
    database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """Also after its rows are put back: they are objects of strings again."""
    configured(configure, tmp_path, MAPPING)
    backfill(readings(tmp_path))
    assert documents_of(database) == [document(i) for i in range(ROWS)]
    assert reconcile("*", deep=True)["balanced"]
    as_the_first_release(database)
    database.execute("DELETE FROM events WHERE event_id = %s", [UUID(int=7)])
    result = reconcile("*", deep=True, fail=False)
    assert findings_of(result) == [("missing", 1)]
    assert reconcile("*", deep=True, repair=True)["repaired"] == 1
    assert documents_of(database) == [document_of_texts(i) for i in range(ROWS)]


def test_a_file_that_the_first_release_loaded_in_part_continues_as_it_began(
    database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    configured(configure, tmp_path, MAPPING)
    configure(batch_rows=8)
    path = readings(tmp_path)
    backfill(path)
    as_the_first_release(database)
    last = "SELECT ids FROM spillway.ledger ORDER BY ids DESC LIMIT 2"
    gone = edit_ledger(database, f"DELETE FROM spillway.ledger WHERE ids IN ({last}) RETURNING read").fetchall()
    assert [read for (read,) in gone] == [8, 8]
    database.execute("DELETE FROM events WHERE event_id >= %s", [UUID(int=ROWS - 16)])
    database.execute("UPDATE spillway.streams SET settled_id = NULL, settled_entries_added = NULL")
    assert backfill_counts(backfill(path)) == (16, 16, 0, 0)
    assert documents_of(database) == [document_of_texts(i) for i in range(ROWS)]
    assert database.execute("SELECT reading FROM spillway.files").fetchall() == [("flat|at||",)]
    result = reconcile("*", deep=True)
    assert (result["balanced"], result["compared"]) == (True, ROWS)


def test_a_row_that_is_redriven_keeps_the_types_of_its_document(
    database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """The quarantine holds texts only. A value that is edited into something that is not JSON becomes a string."""
    configured(configure, tmp_path, MAPPING)
    name = ledger_of_file(backfill(readings(tmp_path, who=None)))
    assert len(documents_of(database)) == ROWS - 1
    redriven = redrive(name, set={"who": "7", "price": "about 5"})
    assert (redriven["inserted"], redriven["still_bad"]) == (1, 0)
    assert documents_of(database)[0] == document(0, who="7") | {"price": "about 5"}
