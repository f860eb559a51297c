"""Elements of an entry's array become rows that also have values of the whole document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.settings import Settings
from tests.support.command_line import RunSpillway

pytestmark = pytest.mark.usefixtures("prefect_server")
_CREATE = "CREATE TABLE users.lines (order_id int8, country text, sku text, quantity int4, PRIMARY KEY (order_id, sku))"
_MAPPING = """
[streams."{}"]
table = "users.lines"
each = "items"
unknown = "refuse"

[streams."{}".columns]
order_id = "$.order.id"
country = "$.country"
quantity = "qty"
"""


@pytest.fixture
def orders(alter: Callable[[str], None], configure: Callable[..., Settings], tmp_path: Path, stream: str) -> str:
    """The name of a stream with a mapping into the table of order lines."""
    alter(_CREATE)
    path = tmp_path / "spillway.toml"
    path.write_text(_MAPPING.format(stream, stream))
    configure(mappings=path)
    return stream


def rows(database: psycopg.Connection) -> list[tuple[object, ...]]:
    return database.execute("SELECT order_id, country, sku, quantity FROM users.lines ORDER BY 1, 3").fetchall()


def test_each_line_has_the_values_of_its_order(
    database: psycopg.Connection, redis_client: redis.Redis, orders: str, spillway: RunSpillway
) -> None:
    """A refused line waits with them, so that a redrive needs nothing else."""
    documents = [
        {"order": {"id": 1}, "country": "DE", "items": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": "many"}]},
        {"order": {"id": 2}, "items": [{"$": {"order": {"id": 9}}, "sku": "a", "qty": 1}, {}, 7], "other": 1},
        {"order": {"id": 3}, "country": "FR", "items": []},
    ]
    for document in documents:
        redis_client.xadd(orders, {"data": json.dumps(document)})
    totals = drain(orders)
    assert (totals["read"], totals["inserted"], totals["quarantined"]) == (3, 2, 3)
    assert rows(database) == [(1, "DE", "a", 2), (2, None, "a", 1)]
    waiting = database.execute("SELECT part, fields[2] FROM spillway.quarantine ORDER BY entry_id, part").fetchall()
    assert [part for part, _ in waiting] == [2, 2, 3]
    assert json.loads(waiting[0][1]) == {"sku": "b", "qty": "many", "$": {"order": {"id": 1}, "country": "DE"}}
    code, out, _ = spillway("quarantine", "list", "--field", "sku")
    (shown,) = (line.removeprefix("next: spillway ") for line in out.splitlines() if line.startswith("next: "))
    code, out, _ = spillway(*shown.split())
    assert (code, out.count('"entry_id"')) == (0, 2)  # both lines of the second order
    corrected = json.dumps(json.loads(waiting[0][1]) | {"qty": 5})
    assert redrive(orders, set={"data": corrected}, field="quantity")["inserted"] == 1
    assert rows(database)[1] == (1, "DE", "b", 5)
    assert reconcile(orders, deep=True)["balanced"]
