"""Random rows as files: each becomes what the server says, as entries of a stream do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import psycopg
import pytest

from flows.backfill import backfill
from infra.errors.exceptions import Unsuccessful
from infra.settings import Settings
from tests.any_table.campaign import TableCase, prepared
from tests.any_table.columns import SCHEMA
from tests.any_table.compare import PredictedEntries, of_rows
from tests.any_table.entries import Rows
from tests.any_table.files import write_csv, write_ndjson, write_parquet
from tests.fuzz.prediction import Fate
from tests.fuzz.seed import SEED
from tests.fuzz.streams import settings_of_the_window
from tests.support.oracle import ledger_sums
from tests.support.servers import Servers

pytestmark = pytest.mark.usefixtures("prefect_server")

_ROWS = 150
_TABLES = range(5)
_QUARANTINED = {Fate.REFUSED, Fate.CONFLICT}


def table_case(number: int, with_timescaledb: bool) -> TableCase:
    """A random table without a second unique index: of two rows of a batch that collide there, either may win."""
    cases = (TableCase(at, f"files {SEED}", with_timescaledb=with_timescaledb) for at in count(10 * number))
    return next(case for case in cases if all(column.name != "second" for column in case.table.columns))


def written(case: TableCase, path: Path) -> list[list[bytes]]:
    """Write a file, and return its rows as entries."""
    naming = case.mapping.naming
    rows = Rows(Random(f"{case.seed} {case.number} {path.suffix}"), case.table, naming)
    if path.suffix == ".ndjson":
        return write_ndjson(path, rows, _ROWS)
    keys = [key for column in case.table.filled for key in naming.of(column.name)]
    keys.sort(key=lambda key: key.startswith("{"))  # a file that begins with a brace passes for JSON
    if path.suffix == ".csv":
        return write_csv(path, rows, keys, _ROWS)
    return write_parquet(path, Random(f"{case.seed} {case.number} parquet"), case.table, rows, _ROWS)


@pytest.mark.parametrize("suffix", [".ndjson", ".csv", ".parquet"])
@pytest.mark.parametrize("number", _TABLES)
def test_every_row_of_a_file_becomes_what_the_server_says(
    number: int, suffix: str, servers: Servers, database: psycopg.Connection, configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:  # fmt: skip
    case = table_case(number, bool(servers.edition))
    layout = "json" if suffix == ".ndjson" else "flat"
    case.mapping = case.mapping.for_file(f"*{suffix}", layout, renamed=suffix != ".parquet")
    (tmp_path / "spillway.toml").write_text(case.mapping.toml)
    configure(
        mappings=tmp_path / "spillway.toml",
        batch_rows=40,
        parallel_loads=1,
        max_bad_share=1,
        **settings_of_the_window(),
    )
    path = tmp_path / f"rows{suffix}"
    with prepared(database):
        case.create(database)
        predicted = PredictedEntries(case.oracle(database))
        for row, fields in enumerate(written(case, path), 1):
            predicted.predict(str(row), fields)
        try:
            result = backfill(str(path))
        except Unsuccessful as failed:
            result = failed.result
        (source,) = result["sources"]
        name = str(source["ledger_name"])
        kept = "SELECT split_part(entry_id, '-', 2), kind FROM spillway.quarantine ORDER BY 1"
        expected = {row: one.fate for row, (_, one) in predicted.entries.items() if one.fate in _QUARANTINED}
        found = dict(database.execute(kept).fetchall())
        wrong = {
            row: (expected.get(row), found.get(row), predicted.entries[row]) for row in expected.keys() ^ found.keys()
        }
        assert wrong == {}, f"SPILLWAY_TEST_FUZZ_SEED={SEED}"
        assert list(of_rows(database, (case.name_in(SCHEMA), case.name_in("twin")), case.table)) == []
        assert ledger_sums(database, name) == predicted.sums
