"""What the catalog of a database says about its tables, and schema.sql applied by psql."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from infra.settings import SCHEMA_SQL

_CATALOG = """
    SELECT 'column', c.table_schema || '.' || c.table_name, c.column_name,
           concat_ws(' ', data_type, is_nullable, column_default, is_identity)
      FROM information_schema.columns c WHERE table_schema IN ('public', 'spillway')
    UNION ALL
    SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace::regnamespace::text IN ('public', 'spillway')
    UNION ALL
    SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname IN ('public', 'spillway')
    UNION ALL
    SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid)
      FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'extension', extname, extversion, '' FROM pg_extension
     ORDER BY 1, 2, 3"""
_HYPERTABLES = """
    SELECT 'hypertable', hypertable_name, column_name, time_interval::text FROM timescaledb_information.dimensions
     ORDER BY 2, 3"""


def catalog(url: str) -> list[tuple[str, ...]]:
    """Columns, constraints, indexes, triggers, hypertables and extensions, by name."""
    with psycopg.connect(url) as connection:
        found = connection.execute(_CATALOG).fetchall()
        if any(row[:2] == ("extension", "timescaledb") for row in found):
            found += connection.execute(_HYPERTABLES).fetchall()
        return found


def run_psql(url: str, file: Path = SCHEMA_SQL) -> subprocess.CompletedProcess[str]:
    """psql with `file`, as a newcomer applies it. Skips the test if there is no psql."""
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not on the PATH")
    command = [psql, "-X", "-q", "-d", url, "-f", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=os.environ | {"LC_ALL": "C"})


def apply_with_psql(url: str, file: Path = SCHEMA_SQL) -> None:
    """Apply `file` without an error or a warning."""
    done = run_psql(url, file)
    assert (done.returncode, done.stderr) == (0, "")
