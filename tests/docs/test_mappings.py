"""Every mapping that a page shows is loaded and drains an entry that fits it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from tests.docs.pages import PAGES, Block, blocks

MAPPINGS = [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, "toml")]
_TIME = datetime(2026, 11, 25, 10, 0, 0, tzinfo=UTC)
_UUID = "5f0c0000-0000-4000-8000-000000000001"


class _Fields(dict[str, str]):
    """An entry that has whatever key a mapping reads."""

    def __missing__(self, key: str) -> str:
        self[key] = f"value of {key}"
        return self[key]


@dataclass(frozen=True)
class FittingEntry:
    """An entry for a table of spillway.toml, and the row that it should become: by the TOML and Python's templates."""

    fields: dict[str, str]
    row: tuple[datetime, str, str]
    event_id: str | None  # None if it is made from a text


def fitting_entry(table: dict[str, Any]) -> FittingEntry:
    """An entry with every key that `table` reads."""
    fields = _Fields()
    fields[table["time"]] = _TIME.strftime("%Y-%m-%dT%H:%M:%SZ")
    event_id = table["event_id"] if isinstance(table["event_id"], str) else None
    if event_id:
        fields[event_id] = _UUID
    texts = []
    for column in (table["event_id"], table["event_type"], table["user_id"]):
        key = column if isinstance(column, str) else column["key"]
        texts.append(key.format_map(fields) if "{" in key else fields[key])
    document: dict[str, Any] = dict(fields)
    if properties := table.get("properties"):
        document[properties] = {"page": "/"}
        fields[properties] = json.dumps(document[properties])
    sent = dict(fields) if table["layout"] == "flat" else {table.get("field", "data"): json.dumps(document)}
    return FittingEntry(sent, (_TIME, texts[1], texts[2]), _UUID if event_id else None)


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("block", MAPPINGS)
def test_a_mapping_of_a_page_drains_an_entry_that_fits_it(
    block: Block, configure: Callable[..., Any], redis_client: redis.Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    from flows.drain import drain

    file = tmp_path / "spillway.toml"
    file.write_text(block.text)
    configure(mappings=file)
    for pattern, table in tomllib.loads(block.text)["streams"].items():
        entry = fitting_entry(table)
        stream = pattern.replace("*", "-docs")
        redis_client.xadd(stream, entry.fields)  # type: ignore[arg-type]
        database.execute("DELETE FROM events")
        drain(stream)
        (found,) = database.execute("SELECT time, event_type, user_id, event_id FROM events").fetchall()
        assert found[:3] == entry.row
        assert entry.event_id in (None, str(found[3]))
