"""Random values of some types of the user's own columns through a real table, an archive and back."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.archive.archive_root import ArchiveRoot, open_root
from tasks.archive.drop_archived import drop_archived
from tasks.archive.manifest import Manifest
from tasks.archive.restore import restored_columns
from tasks.archive.write_chunk import archive_chunk
from tasks.base.addresses import IdRange
from tasks.columns.batch import BatchLimits
from tasks.columns.row_layout import bind
from tasks.files.file_reader import FileReader
from tasks.files.find import SourceFile
from tasks.files.scan import scan
from tasks.files.spool import Spool
from tasks.table.insert import InsertRoute, insert
from tests.support.archives import THURSDAY, only_chunk
from tests.support.default_table import default_table
from tests.support.events_layouts import FLAT
from tests.support.strategies import TEXT
from tests.support.user_columns import dump
from tests.support.user_table import ANY_TIME

Alter = Callable[[str], None]

FLOATS = st.floats() | st.sampled_from([0.1, -0.0, 1e15, 123456789.0, 1e-5])
FINITE = st.decimals(allow_nan=False, allow_infinity=False, min_value=-9_999_999, max_value=9_999_999, places=3)
ODD = st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "20240-01-01"])
COLUMNS: dict[str, tuple[str, st.SearchStrategy[Any]]] = {
    "b": ("bool", st.booleans()),
    "i": ("int8", st.integers(-(2**63), 2**63 - 1)),
    "f": ("float8", FLOATS),
    "f4": ("float4", st.floats(width=32)),
    "t": ("text DEFAULT 'acme'", TEXT),
    "d": ("numeric(10,3)", FINITE | st.just(Decimal("NaN"))),
    "n": ("numeric", st.decimals(-(10**40), 10**40, allow_nan=False)),
    "day": ("date", st.dates() | ODD),
    "at": ("timestamp", st.datetimes() | ODD),
    "raw": ("bytea", st.binary(max_size=20)),
    "list": ("text[]", st.lists(st.none() | TEXT, max_size=3)),
    "span": ("interval", st.timedeltas(timedelta(-(10**6)), timedelta(10**6))),
}
ROWS = st.lists(
    st.tuples(st.integers(0, 7 * 86_400 - 1), *(st.none() | values for _, values in COLUMNS.values())),
    min_size=1,
    max_size=10,
)


@pytest.fixture
def table(alter: Alter, database: psycopg.Connection) -> psycopg.Connection:
    alter("ALTER TABLE events " + ", ".join(f'ADD COLUMN "{name}" {kind}' for name, (kind, _) in COLUMNS.items()))
    return database


def restore(connection: psycopg.Connection, root: ArchiveRoot, manifest: Manifest, route: InsertRoute) -> None:
    """As the flow does it, without Prefect: each file through the spool, in batches of a few rows."""
    table = default_table(connection)
    (columns,) = restored_columns(connection, table, root, [manifest], ()).columns
    layout = bind(FLAT.mapping, table, columns)
    for file in manifest.files:
        source = SourceFile(root.files, root.path(file.path), file.path, "parquet", None)
        spool = Spool()
        found = scan(source, layout, spool)
        reader = FileReader(
            "f", found.section, [IdRange(0, found.end)], BatchLimits(3, 1 << 20), found.layout, ANY_TIME
        )
        while (batch := reader.read()) is not None:
            with connection.transaction():
                outcome = insert(connection, batch, route)
            assert (list(batch.encoded.faults), outcome.faults) == ([], ())
            assert outcome.inserted == len(batch.encoded.rows) == batch.read
        spool.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=ROWS, route=st.sampled_from(InsertRoute))
def test_any_values_come_back_as_they_were(
    table: psycopg.Connection, rows: list[tuple[Any, ...]], route: InsertRoute
) -> None:
    table.execute("TRUNCATE events")
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    with table.cursor().copy(f"COPY events (time, event_id, event_type, user_id, {names}) FROM STDIN") as copy:
        for number, (second, *values) in enumerate(rows):
            copy.write_row((THURSDAY + timedelta(seconds=second), uuid.UUID(int=number), "a", "b", *map(plain, values)))
    before = dump(table)
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(str(Path(folder) / "archive"))
        chunk = only_chunk(table)
        manifest = archive_chunk(table, default_table(table), chunk, root)
        assert drop_archived(table, default_table(table), chunk, manifest, root) == "dropped"
        assert dump(table) == []
        restore(table, root, manifest, route)
    assert dump(table) == before


def plain(value: Any) -> Any:
    """Years before 1000 as PostgreSQL reads them."""
    return value.isoformat() if isinstance(value, date | datetime) else value
