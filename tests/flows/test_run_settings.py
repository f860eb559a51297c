"""Settings of a run: a misspelled one stops it, and the mappings are found wherever it is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from infra import settings as module
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import written
from tests.support.command_line import RunSpillway
from tests.support.oracle import crossref_rows, table_rows
from tests.support.stream_entries import SENSOR_READINGS

Configure = Callable[..., Settings]


@pytest.mark.parametrize(
    "command",
    [
        "drain --stream events-x",
        "maintain",
        "reconcile --stream events-x",
        "status",
        "backfill x.csv",
        "quarantine list",
    ],
)
def test_a_misspelled_variable_stops_every_command(
    command: str, spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, sample: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    send(redis_client, "events-x", ({b"data": line} for line in sample.read_bytes().splitlines()[:10]))
    monkeypatch.setenv("SPILLWAY_MAX_BAD_SHARES", "0.1")
    code, out, err = spillway(*command.split())
    assert code == 2
    assert "SPILLWAY_MAX_BAD_SHARES: no such setting, did you mean SPILLWAY_MAX_BAD_SHARE?" in err.replace("\n", " ")
    assert out == ""
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", [None, "spillway.toml", "./spillway.toml"])
def test_mappings_are_those_of_the_project_wherever_a_run_starts(
    name: str | None, sample: Path, redis_client: redis.Redis, database: psycopg.Connection, configure: Configure,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "spillway.toml", b"[streams.other]\n")
    if name:
        configure(mappings=name)
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref-x", ({b"data": line} for line in lines))
    assert drain("crossref-x")["inserted"] == 2_654
    assert table_rows(database) == crossref_rows(lines)


def test_a_mapping_file_that_is_named_must_exist(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, configure: Configure, tmp_path: Path
) -> None:
    send(redis_client, "events-x", SENSOR_READINGS[:3])
    for name, place in ((str(tmp_path / "none.toml"), tmp_path), ("none.toml", module.PROJECT_ROOT)):
        configure(mappings=name)
        code, _, err = spillway("drain", "--stream", "events-x")
        assert code == 2
        assert f"SPILLWAY_MAPPINGS: expected a file, found nothing at {place / 'none.toml'}" in err.replace("\n", " ")
    assert database.execute("SELECT count(*) FROM spillway.streams").fetchone() == (0,)


@pytest.mark.usefixtures("prefect_server")
def test_a_drain_that_needs_a_mapping_says_that_there_is_no_mapping_file(
    redis_client: redis.Redis, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(module.PROJECT_ROOT / "spillway.toml", tmp_path / "other.toml")
    monkeypatch.setattr(module, "settings_folder", lambda: tmp_path)
    module.settings.cache_clear()
    send(redis_client, "events-x", SENSOR_READINGS[:3])
    with pytest.raises(Terminal, match=f"events-x: {tmp_path}/spillway.toml does not exist, and without a mapping"):
        drain("events-x")
    assert table_rows(database) == {}
