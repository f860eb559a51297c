"""No file name can control a terminal, a log or an artifact, and an invalid name affects only its own file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from prefect.artifacts import Artifact

from infra.settings import Settings
from tests.support.backfill_sources import as_document, csv_text, flat_columns, ndjson
from tests.support.command_line import RunSpillway
from tests.support.flow_runs import last_run
from tests.support.oracle import flat_rows, table_rows
from tests.support.stream_entries import event

pytestmark = pytest.mark.usefixtures("prefect_server")

NAMES = [
    "mk[/x].csv",
    "esc\x1b[31mred.csv",
    "osc\x1b]0;title\x07.csv",
    "pipe|`x`[l](u).csv",
    "<b>*bold*.csv",
    "two\nlines.csv",
    "neu\u202egnal.csv",
    "c1\x9b2J.csv",
]
OBEYED = ("\x1b]", "\x1b[31m", "\x9b", "\x07", "\u202e")


def obeyed(text: str) -> list[str]:
    return [sign for sign in OBEYED if sign in text]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a file with one event under each name."""
    for n, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)  # one name has a folder in it
        (tmp_path / name).write_bytes(csv_text([flat_columns(event(n))]))
    return tmp_path


def artifact(key: str) -> tuple[str, str]:
    """The description of an artifact and its data."""
    found = Artifact.get(key)
    assert found is not None
    return str(found.description), str(found.data)


def test_files_of_any_name_are_loaded_and_shown_escaped(
    spillway: RunSpillway, database: psycopg.Connection, folder: Path
) -> None:
    code, out, err = spillway("backfill", str(folder))
    assert code == 0, err
    assert table_rows(database) == flat_rows(event(n) for n in range(len(NAMES)))
    assert "mk[/x].csv" in out
    assert "two\\nlines.csv" in out
    assert not obeyed(out + err)
    description, data = artifact("backfill")
    assert not obeyed(description + data)
    assert "\\\\[l\\\\](u)" in data or "\\[l\\](u)" in data
    code, out, err = spillway("backfill", str(folder), "--json")
    assert (code, json.loads(out.splitlines()[-1])["remaining"]) == (0, 0), err
    assert not obeyed(out + err)
    code, out, err = spillway("reconcile", "--stream", "*", "--deep")
    assert code == 0, err
    assert not obeyed(out + err)


def test_warnings_and_errors_show_names_escaped(
    spillway: RunSpillway, database: psycopg.Connection, folder: Path, configure: Callable[..., Settings],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    mapping = tmp_path_factory.mktemp("mapping") / "spillway.toml"
    mapping.write_text(
        '[streams."warn*"]\nlayout = "flat"\ntime = "time"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        'user_id = { key = "nobody_has_it", default = "nobody" }\nproperties = "properties"\n'
    )
    configure(mappings=mapping)
    odd = folder / "warn\x1b]0;as\x07[b](u)|.ndjson"
    odd.write_bytes(ndjson([as_document(event(70))]))
    code, out, err = spillway("backfill", str(odd), "--verbose")
    assert code == 0, err
    assert "warning" in err
    assert "warn\\x1b]0;as\\x07[b](u)|.ndjson: " in err
    assert not obeyed(out + err)
    description, _ = artifact("backfill")
    assert "\\[b\\](u)\\|.ndjson: " in description
    assert not obeyed(description)
    bad = folder / "bad\x1b]0;t\x07[b].csv"
    bad.write_bytes(b"\xff\xfe" * 5)
    code, out, err = spillway("backfill", str(bad), "--verbose")
    assert code == 1
    assert "error: " in err
    assert "bad\\x1b]0;t\\x07[b].csv" in err
    assert not obeyed(out + err)
    state = last_run().state
    assert state is not None
    assert not obeyed(str(state.message))


def test_quarantine_lists_names_escaped(spillway: RunSpillway, database: psycopg.Connection, folder: Path) -> None:
    bad = [flat_columns(event(n, user_id="")) for n in range(3)]
    (folder / NAMES[2]).write_bytes(csv_text([flat_columns(event(9)), *bad]))
    code, out, err = spillway("backfill", str(folder / NAMES[2]))
    assert code == 0, err
    for options in ([], ["--json"]):
        code, listed, err = spillway("quarantine", "list", *options)
        assert code == 0, err
        assert not obeyed(out + listed + err)


def test_a_name_that_is_not_text_affects_only_its_own_file(
    spillway: RunSpillway, database: psycopg.Connection, folder: Path
) -> None:
    (folder / os.fsdecode(b"odd\xff.csv")).write_bytes(csv_text([flat_columns(event(50))]))
    code, out, err = spillway("backfill", str(folder))
    assert code == 0, err
    assert table_rows(database) == flat_rows(event(n) for n in range(len(NAMES)))
    assert "warning: " in err
    assert "1 names are not UTF-8" in err
    assert not obeyed(out + err)
    code, out, err = spillway("backfill", str(folder / os.fsdecode(b"odd\xff.csv")))
    assert code == 2
    assert err.endswith("odd\\udcff.csv: expected an argument in UTF-8; rename the file or stream that has this name\n")
    assert spillway("drain", "--stream", os.fsdecode(b"odd\xff"))[0] == 2


def test_an_archive_lists_folder_names_escaped(
    spillway: RunSpillway, database: psycopg.Connection, tmp_path: Path, configure: Callable[..., Settings]
) -> None:
    folder = tmp_path / "arch\x1b]0;t\x07[" / "x]"
    (folder / "events" / "_manifests").mkdir(parents=True)
    (folder / "events" / "_manifests" / "x\x1b]0;t\x07[red]y.json").write_text("{")
    for command in (["list"], ["list", "--json"], ["verify"], ["verify", "--json"]):
        code, out, err = spillway("archive", *command, "--url", str(folder))
        assert code == 1, out
        assert not obeyed(out + err)
    configure(archive_url=folder, archive_after="1d", keep="3650d", retention="archive")
    _, out, err = spillway("maintain", "--dry-run")
    assert not obeyed(out + err)
    description, data = artifact("maintain")
    assert not obeyed(description + data)
