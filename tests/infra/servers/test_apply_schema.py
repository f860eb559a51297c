"""Applying schema.sql."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from infra import schema
from infra.errors.exceptions import Terminal, Transient
from infra.schema import apply_schema, schema_is_there, statements
from tests.support.instances import Instance, free_port


def test_meta_commands_are_left_out() -> None:
    assert statements("\\set ON_ERROR_STOP on\nSELECT '\\x';\n\\echo") == "SELECT '\\x';"


def test_it_can_be_applied_again_and_keeps_the_rows(some: Instance) -> None:
    apply_schema(some.settings.database)
    with psycopg.connect(some.settings.database, autocommit=True) as connection:
        connection.execute("INSERT INTO events VALUES ('2020-01-01Z', gen_random_uuid(), 'type', 'user')")
        apply_schema(some.settings.database)
        assert schema_is_there(connection)
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)
        connection.execute("TRUNCATE events")


def test_a_server_error_is_terminal_and_nothing_is_applied(
    some: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "schema.sql"
    file.write_text(
        "BEGIN; CREATE TABLE public.half (); DO $$ BEGIN RAISE 'not so' USING HINT = 'but so'; END $$; COMMIT;"
    )
    monkeypatch.setattr(schema, "SCHEMA_SQL", file)
    with pytest.raises(Terminal, match=r"schema.sql on 127.0.0.1:\d+: not so \(but so\)"):
        apply_schema(some.settings.database)
    with psycopg.connect(some.settings.database) as connection:
        assert connection.execute("SELECT to_regclass('public.half')").fetchone() == (None,)


def test_a_server_that_is_not_there_is_transient() -> None:
    with pytest.raises(Transient, match=r"Connection refused.*spillway up"):
        apply_schema(f"postgresql://analytics_user@127.0.0.1:{free_port()}/analytics")
