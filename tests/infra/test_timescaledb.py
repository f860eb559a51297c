"""The shape of TimescaleDB's private catalog is checked before anything is drained or maintained."""

from __future__ import annotations

import re
import subprocess

import psycopg
import pytest
from packaging.version import Version

from infra.errors.exceptions import Terminal
from infra.settings import PROJECT_ROOT
from infra.timescaledb import check_catalog


def test_a_tested_version_passes_without_a_warning(database: psycopg.Connection) -> None:
    assert check_catalog(database) == []


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
def test_an_untested_version_whose_catalog_fits_gives_a_warning(database: psycopg.Connection) -> None:
    (warning,) = check_catalog(database, newest_tested=Version("2.18.0"))
    assert re.fullmatch(r"TimescaleDB [\d.]+ is newer than 2\.18\.0, .*; its catalog fits", warning)


@pytest.mark.hypertables
@pytest.mark.usefixtures("hypertables")
@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (
            "ALTER TABLE _timescaledb_catalog.compression_chunk_size RENAME numrows_pre_compression TO other",
            "compression_chunk_size",
        ),
        (
            "ALTER FUNCTION _timescaledb_functions.chunk_status(regclass) RENAME TO chunk_state",
            r"chunk_status\(regclass\)",
        ),
    ],
)
def test_a_version_that_changed_the_catalog_is_refused_with_the_change(
    database: psycopg.Connection, change: str, missing: str
) -> None:
    with database.transaction(force_rollback=True):
        database.execute("SET LOCAL timescaledb.restoring = on")
        database.execute(change)
        with pytest.raises(Terminal, match=f"changed its catalog: expected .*{missing}"):
            check_catalog(database)
    assert check_catalog(database) == []


def test_private_names_are_in_one_module() -> None:
    """The check would not notice a private name that is used elsewhere."""
    listed = subprocess.run(["git", "ls-files", "*.py", "*.sql"], cwd=PROJECT_ROOT, capture_output=True, check=True)
    private = re.compile(r"_timescaledb_(catalog|functions|config|debug)\b|_timescaledb_internal\.(?!_hyper)\w")
    found = [
        name
        for name in listed.stdout.decode().split()
        if not name.startswith("tests/") and private.search((PROJECT_ROOT / name).read_text(encoding="utf-8"))
    ]
    assert found == ["infra/timescaledb.py"]
