"""Maintenance of several tables: each by its options, and what is wrong with one is never attributed to another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flows.maintain import maintain
from infra.settings import Settings
from tests.support.chunk_states import chunk_statuses
from tests.support.command_line import RunSpillway
from tests.support.other_tables import START, fill, make_table
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.hypertables, pytest.mark.usefixtures("prefect_server", "hypertables")]

Alter = Callable[[str], None]
Configure = Callable[..., Settings]
NAMES = ["public.events", "users.hyper", "users.parts", "users.plain"]


def record(connection: psycopg.Connection, name: str, inserted: int) -> None:
    """A stream that went into a table, as its ledger says."""
    stream = f"to {name}"
    connection.execute('INSERT INTO spillway.streams (name, baseline, "table") VALUES (%s, 0, %s)', [stream, name])
    connection.execute(
        "INSERT INTO spillway.ledger (stream, ids, read, rows, inserted, min_time, max_time, loaded_by)"
        " SELECT id, numrange(0, 1), %(rows)s, %(rows)s, %(rows)s, %(time)s, %(time)s, 'test' FROM spillway.streams"
        " WHERE name = %(stream)s",
        {"rows": inserted, "time": START, "stream": stream},
    )


@pytest.fixture
def tables(alter: Alter, database: psycopg.Connection) -> psycopg.Connection:
    """A hypertable of 84 rows, a partitioned table of 40, a plain one of 5; `events` is empty."""
    alter(
        """CREATE TABLE users.parts (at date NOT NULL, n int) PARTITION BY RANGE (at);
           CREATE TABLE users.p1 PARTITION OF users.parts FOR VALUES FROM ('2024-01-04') TO (MAXVALUE);
           INSERT INTO users.parts SELECT '2024-01-04'::date + n, n FROM generate_series(0, 39) AS n;
           CREATE TABLE users.plain (n int); INSERT INTO users.plain SELECT generate_series(1, 5)"""
    )
    fill(database, make_table(database, "timestamp", name="users.hyper"), range(84))
    for name, rows in (("hyper", 84), ("parts", 40), ("plain", 5)):
        record(database, f'"users"."{name}"', rows)
    return database


def configured(configure: Configure, folder: Path, text: str) -> None:
    path = folder / "spillway.toml"
    path.write_text(text)
    configure(mappings=path)


def by_name(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {table["table"]: table for table in report["tables"]}


def test_each_table_has_its_own_report_and_a_loss_is_that_of_its_table(tables: psycopg.Connection) -> None:
    found = maintain()
    reports = by_name(found)
    assert (found["ok"], list(reports)) == (True, NAMES)
    assert {
        name: (one["kind"], one["row_audit"]["rows"], one["row_audit"]["missing"]) for name, one in reports.items()
    } == {
        "public.events": ("hypertable", 0, 0),
        "users.hyper": ("hypertable", 84, 0),
        "users.parts": ("partitioned table", 40, 0),
        "users.plain": ("table", 5, 0),
    }
    assert found["row_audit"] == reports["public.events"]["row_audit"]
    assert "users.plain: table: compression, retention and archives need a hypertable with a time" in found["summary"]
    tables.execute("DELETE FROM users.plain WHERE n = 3; DELETE FROM users.parts WHERE n > 37")
    found = maintain(fail=False)
    missing = {name: one["row_audit"]["missing"] for name, one in by_name(found).items()}
    assert missing == {"public.events": 0, "users.hyper": 0, "users.parts": 2, "users.plain": 1}
    assert [text.split(":")[0:2] for text in found["violations"]] == [
        ["users.parts", " 2 rows are gone"],
        ["users.plain", " 1 row is gone"],
    ]


def test_only_the_table_whose_section_says_so_is_dropped_from(
    tables: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    fill(tables, make_table(tables, "timestamptz", name="users.other"), range(84))
    record(tables, '"users"."other"', 84)
    configured(configure, tmp_path, '[tables."users.hyper"]\nkeep = "30d"\n')
    found = maintain()
    reports = by_name(found)
    assert [len(one["dropped"]) for one in reports.values()] == [0, 3, 0, 0, 0]
    assert reports["users.hyper"]["row_audit"] | {"since": None} == {
        "since": None, "inserted": 84, "rows": 0, "dropped": 84, "checked": True, "missing": 0, "redriven": 0,
    }  # fmt: skip
    assert (reports["users.other"]["row_audit"]["rows"], found["ok"]) == (84, True)
    assert tables.execute('SELECT DISTINCT "table" FROM spillway.drops').fetchall() == [('"users"."hyper"',)]


def test_options_that_need_chunks_are_a_warning_for_other_tables(
    tables: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    configured(configure, tmp_path, '[tables."users.plain"]\nkeep = "30d"\nsegmentby = "n"\n')
    found = maintain()
    warnings = [one for one in found["warnings"] if "Community edition" not in one]
    assert (found["ok"], warnings) == (
        True,
        [
            'users.plain: keep of [tables."users.plain"], segmentby of [tables."users.plain"]: expected a hypertable'
            " with a time, found a table; the rest of maintenance works"
        ],
    )


def test_a_table_that_is_gone_is_a_violation_until_its_drop_is_on_record(tables: psycopg.Connection) -> None:
    tables.execute("DROP TABLE users.plain")
    (violation,) = maintain(fail=False)["violations"]
    assert violation.startswith(
        '"users"."plain": 5 rows are gone: the ledger says 5 were inserted, found no such table; '
    )
    tables.execute(
        'INSERT INTO spillway.drops ("table", chunk, range_end, rows, dropped_by)'
        " VALUES ('\"users\".\"plain\"', 'table', now(), 5, 'anna')"
    )
    assert maintain()["violations"] == []


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_the_server_itself_compresses_and_then_drops_the_chunks_of_a_table_by_its_policies(
    tables: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    """Nobody calls the jobs: the test waits for the server's scheduler."""
    configured(configure, tmp_path, '[tables."users.hyper"]\ncompress_after = "7d"\n')
    maintain()
    wait_until(lambda: set(chunk_statuses(tables, "hyper")) == {1}, 240)
    assert tables.execute("SELECT count(*) FROM users.hyper").fetchone() == (84,)
    configured(configure, tmp_path, '[tables."users.hyper"]\nkeep = "30d"\nretention = "policy"\n')
    maintain()
    wait_until(lambda: chunk_statuses(tables, "hyper") == [], 240)
    assert tables.execute("SELECT count(*) FROM users.hyper").fetchone() == (0,)
    found = maintain()
    assert (found["ok"], by_name(found)["users.hyper"]["row_audit"]["missing"]) == (True, 0)


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_a_section_with_unknown_columns_is_an_error_and_the_other_tables_are_maintained(
    tables: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    configured(configure, tmp_path, '[tables."users.hyper"]\nsegmentby = "sensor"\n')
    found = maintain(fail=False)
    assert len(found["violations"]) == 1
    assert found["violations"][0].startswith('segmentby of [tables."users.hyper"]')
    assert "expected columns of users.hyper, found sensor" in found["violations"][0]
    assert [one["violations"] for one in by_name(found).values() if one["table"] != "users.hyper"] == [[], [], []]
    configured(configure, tmp_path, '[tables."users.hyper"]\nsegmentby = "\\"Ort\\""\n')
    assert "users.hyper: compression set: segmentby Ort, orderby at %s DESC" in "\n".join(maintain()["changes"])


def test_the_command_prints_a_row_for_each_table(tables: psycopg.Connection, spillway: RunSpillway) -> None:
    code, out, _ = spillway("maintain")
    assert code == 0
    lines = out.splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[:8] if line.strip().startswith(("pu", "us"))}
    assert list(rows) == NAMES
    assert rows["users.plain"] == "table 5 8 kB 0 0 0"
    assert rows["users.parts"] == "partitioned table 40 8 kB 0 0 2024-01-04 0"
    assert [line for line in lines if line in NAMES] == NAMES  # the headings of the details
    code, out, _ = spillway("maintain", "--json")
    assert [one["table"] for one in json.loads(out)["tables"]] == NAMES
