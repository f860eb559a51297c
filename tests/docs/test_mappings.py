"""Every mapping that a page shows is loaded and drains an entry that fits it."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from tests.docs.pages import PAGES, Block, blocks
from tests.support.command_line import RunSpillway

MAPPINGS = [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, "toml")]
_TIME = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)
_UUID = "5f0c0000-0000-4000-8000-000000000001"


class _Document(dict[str, str]):
    """An entry with whatever key a template reads."""

    def __missing__(self, key: str) -> str:
        self[key] = f"value of {key}"
        return self[key]


def _text(column: str | dict[str, Any], document: _Document) -> str:
    """What a column should be, by Python's own templates. Fills the document with the keys that are read."""
    key = column if isinstance(column, str) else column["key"]
    return key.format_map(document) if "{" in key else document[key]


@pytest.mark.parametrize("block", MAPPINGS)
def test_a_mapping_of_a_page_drains_an_entry_that_fits_it(
    block: Block, spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "spillway.toml"
    file.write_text(block.text)
    monkeypatch.setenv("SPILLWAY_MAPPINGS", str(file))
    for pattern, table in tomllib.loads(block.text)["streams"].items():
        stream = pattern.replace("*", "-docs")
        document = _Document()
        document[table["time"]] = _TIME.strftime("%Y-%m-%dT%H:%M:%SZ")
        event_id = table["event_id"]
        if isinstance(event_id, str):
            document[event_id] = _UUID
        expected = {name: _text(table[name], document) for name in ("event_id", "event_type", "user_id")}
        if "properties" in table:
            document[table["properties"]] = '{"page":"/"}'
        if table["layout"] == "json":
            whole: dict[str, Any] = dict(document)
            if "properties" in table:
                whole[table["properties"]] = {"page": "/"}
            redis_client.xadd(stream, {table.get("field", "data"): json.dumps(whole)})
        else:
            redis_client.xadd(stream, dict(document))
        database.execute("DELETE FROM events")
        assert spillway("drain", "--stream", stream)[0] == 0
        (row,) = database.execute("SELECT time, event_id, event_type, user_id FROM events").fetchall()
        assert (row[0], row[2], row[3]) == (_TIME, expected["event_type"], expected["user_id"])
        assert isinstance(row[1], UUID)
        if isinstance(event_id, str):
            assert str(row[1]) == _UUID
