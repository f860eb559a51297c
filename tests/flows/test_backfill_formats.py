"""Events whose id is derived from their time and a number are loaded once, whatever their format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid5

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from infra.producers.send import send
from infra.settings import Settings
from tasks.columns.uuids import NAMESPACE
from tests.support.backfill_sources import written
from tests.support.measurements import FORMATS, Measurement
from tests.support.oracle import table_rows

pytestmark = pytest.mark.usefixtures("prefect_server")

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = [
    Measurement(f"s{n % 7}", int(FIRST.timestamp() + n * 997) * 1_000_000, n, n / 4, Decimal(510 + n).scaleb(-2))
    for n in range(100)
]
MAPPING = """
[streams."rows*"]
layout = "LAYOUT"
time = "at"
event_id = { key = "{sensor}|{at}|{number}|{reading}|{price}", uuid5 = true }
event_type = "seen at {at}"
user_id = "{number}"
properties = "more"
"""


@pytest.mark.parametrize("layout", ["json", "flat"])
def test_a_hundred_rows_in_every_format_are_a_hundred_events(
    layout: str, redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:  # fmt: skip
    mapping = tmp_path / "spillway.toml"
    mapping.write_text(MAPPING.replace("LAYOUT", layout))
    configure(mappings=mapping)
    if layout == "json":
        send(redis_client, "rows", ({b"data": line} for line in FORMATS["NDJSON, ISO"][2](ROWS).splitlines()))
    else:
        send(redis_client, "rows", map(flat_entry, ROWS))
    assert drain("rows")["inserted"] == 100
    folder = tmp_path / "files"
    folder.mkdir()
    for number, (ending, _, write) in enumerate(FORMATS.values()):
        written(folder, f"rows-{number}.{ending}", write(ROWS))
    result = backfill(str(folder))
    assert (result["inserted"], result["duplicates"], result["quarantined"]) == (0, 100 * len(FORMATS), 0)
    expected = {}
    for row in ROWS:
        at = FIRST + timedelta(microseconds=row.at - ROWS[0].at)
        spelled = f"{at:%Y-%m-%dT%H:%M:%SZ}"
        event_id = str(uuid5(NAMESPACE, f"{row.sensor}|{spelled}|{row.number}|{row.reading}|{row.price}"))
        expected[event_id, at] = (f"seen at {spelled}", str(row.number), {"n": row.number})
    assert table_rows(database) == expected


def flat_entry(row: Measurement) -> dict[bytes, bytes]:
    """With a time format that no other source has: seconds since 1970."""
    fields = {
        "sensor": row.sensor,
        "at": row.at // 1_000_000,
        "number": row.number,
        "reading": row.reading,
        "price": row.price,
        "more": f'{{"n": {row.number}}}',
    }
    return {name.encode(): str(value).encode() for name, value in fields.items()}
