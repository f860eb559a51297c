"""The tables of all commands in pseudo-terminals of 80 and 60 columns, also without colours and without Unicode."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import redis

from infra.output_table import Column, fitting, records
from infra.producers.send import send
from infra.settings import settings
from tests.support.old_events import old_events
from tests.support.programs import BIN
from tests.support.screen import Screen, on_screens
from tests.support.stream_entries import event

pytestmark = [pytest.mark.timeout(600), pytest.mark.hypertables]

LONG = f"events-{'x' * 90}"
HOSTILE = "events-\x1b[31m[red]é\U0001f980漢字"
ASCII = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C"}
DUMB_ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "TERM": "dumb"}
VARIANTS = [(80, {}), (60, {"NO_COLOR": "1"}), (60, ASCII), (80, DUMB_ASCII)]


@dataclass(frozen=True)
class Prepared:
    """The environment, the commands that print tables, and what none of them may cut, by the command's name."""

    env: dict[str, str]
    commands: dict[str, list[str]]
    whole: dict[str, list[str]]


@pytest.fixture
def prepared(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Prepared:  # fmt: skip
    """Streams with names of every kind, bad entries, old chunks, archives, and a ledger that does not balance."""
    from flows.plain.drain import drain
    from flows.plain.maintain import maintain

    for at, name in enumerate(("events-web", LONG, HOSTILE)):
        send(redis_client, name, [*(event(100 * at + n) for n in range(3)), {b"event_id": b"no uuid"}])
    send(redis_client, "events-web", old_events())
    drain("events-*")
    monkeypatch.setenv("SPILLWAY_ARCHIVE_URL", str(tmp_path / "archive"))
    monkeypatch.setenv("SPILLWAY_ARCHIVE_AFTER", "30d")
    settings.cache_clear()
    maintain(fail=False)
    database.execute("UPDATE spillway.streams SET inserted = inserted + 1 WHERE name = %s", [HOSTILE])
    file = tmp_path / "history.ndjson"
    known = '"event_id": "5f0c0000-0000-4000-8000-000000000001", "event_type": "…×«»", "user_id": "é"'
    file.write_text(f'{{{known}, "time": "2026-11-20T10:00:00Z"}}\n')
    mine = env | {
        "PREFECT_API_URL": "", "SPILLWAY_ARCHIVE_URL": str(tmp_path / "archive"), "SPILLWAY_ARCHIVE_AFTER": "30d",
    }  # fmt: skip
    commands = {
        "status": ["status"],
        "drain": ["drain", "-s", "events-*"],
        "quarantine list": ["quarantine", "list"],
        "entries": ["quarantine", "list", "--entries"],
        "redrive": ["quarantine", "redrive", "--dry-run"],
        "reconcile": ["reconcile", "-s", "events-*"],
        "maintain": ["maintain", "--dry-run"],
        "archive list": ["archive", "list"],
        "backfill": ["backfill", str(file), "--dry-run"],
        "mapping check": ["mapping", "check", "-s", str(file)],
        "help": ["quarantine", "redrive", "--help"],
    }
    ids = [text for (text,) in database.execute("SELECT entry_id FROM spillway.quarantine")]
    chunks = [
        text.strip("_")
        for (text,) in database.execute("SELECT chunk_name FROM timescaledb_information.chunks ORDER BY 1")
    ]
    archives = [path.name.removesuffix(".json") for path in sorted((tmp_path / "archive").rglob("_manifests/*"))]
    assert len(ids) == 3
    assert archives
    return Prepared(mine, commands, {"entries": ids, "maintain": chunks, "archive list": archives})


def test_no_table_cuts_an_id_and_every_terminal_can_show_it(prepared: Prepared) -> None:

    codes: dict[str, int] = {}
    for columns, more in VARIANTS:
        screens = on_screens(prepared.env, list(prepared.commands.values()), columns, **more)
        for name, screen in zip(prepared.commands, screens, strict=True):
            where = f"{name} at {columns} columns, {more}"
            text = "\n".join(screen.lines)
            assert screen.code == codes.setdefault(name, screen.code), f"{where}\n{text}"
            assert "Traceback" not in text, where
            assert [one for one in prepared.whole.get(name, []) if one not in text] == [], f"{where}\n{text}"
            check_escapes(screen, more, where)
    assert set(codes.values()) == {0, 1}


def check_escapes(screen: Screen, more: dict[str, str], where: str) -> None:
    """No stream's name moves the cursor, and there is no colour and no Unicode where there must be none."""
    found = set(re.findall(r"\x1b\[[0-9;?]*([A-Za-z])", screen.raw))
    if "TERM" in more:
        assert "\x1b" not in screen.raw, where
    assert found <= {"m", "K", "l", "h", "A", "G"}, where
    if "NO_COLOR" in more:
        assert not re.search(r"\x1b\[(?:\d+;)*(?:3|4|9)\d", screen.raw), where
    if "LC_ALL" in more:
        assert screen.raw.isascii(), f"{where}: {[line for line in screen.lines if not line.isascii()]}"


def test_json_in_ascii_is_the_same_json(prepared: Prepared) -> None:
    found = []
    for more in ({}, ASCII):
        done = subprocess.run(
            [BIN / "spillway", "drain", "-s", "events-*", "--json"], env=prepared.env | more, capture_output=True,
            check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout))
    assert found[0].keys() == found[1].keys()


def test_a_narrow_table_drops_what_matters_least_and_then_becomes_records() -> None:
    columns = [Column("name", whole=True), Column("size", right=True, whole=True), Column("note")]
    rows = [["a" * 20, "1,234", "some words " * 5]]
    assert fitting(columns, rows, 80, True, ("size",)) == ([0, 1, 2], True)
    assert fitting(columns, rows, 43, True, ("size",)) == ([0, 1, 2], False)
    assert fitting(columns, rows, 40, True, ("size",)) == ([0, 2], False)
    assert fitting(columns, rows, 30, True, ("size",)) == ([], False)
    printed = [str(line) for line in records(columns, [*rows, ["b", "", "x"]])]
    assert printed[0] == f"name  {'a' * 20}"
    assert printed[-3:] == ["", "name  b", "note  x"]
