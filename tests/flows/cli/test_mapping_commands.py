"""`spillway mapping suggest` and `check` as a new user types them: what they print, and what a drain then does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from infra.mapping.toml import load_mappings
from tests.support.command_line import RunSpillway, assert_one_error
from tests.support.real_data import weather
from tests.support.shop import order_fields, order_rows, orders

pytestmark = pytest.mark.usefixtures("redis_client")
ORDERS = orders(300)
# The same columns as in `order_rows`.
COLUMNS = "order_id, tenant, placed_at, customer_id, email, total, items, note"


@pytest.fixture
def toml(configure: Callable[..., Any], tmp_path: Path) -> Path:
    """The mapping file, empty at first."""
    path = tmp_path / "spillway.toml"
    path.touch()
    configure(mappings=path)
    return path


@pytest.fixture
def shop(redis_client: redis.Redis) -> str:
    """A stream of orders that nobody has mapped."""
    for order in ORDERS:
        redis_client.xadd("shop-orders", order_fields(order))  # type: ignore[arg-type]
    return "shop-orders"


@pytest.fixture
def database_of_user(database: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A database in which the tables of these tests do not stay."""
    yield database
    database.execute("SET client_min_messages = error")
    for name in ("shop_orders", "weather", "wrong"):  # older TimescaleDB drops a hypertable only alone
        database.execute(f"DROP TABLE IF EXISTS {name}".encode())


def test_three_commands_lead_from_a_stream_that_nobody_has_mapped_to_a_drained_table(
    shop: str, toml: Path, spillway: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    """1. suggest --sql | psql. 2. suggest >> spillway.toml. 3. drain."""
    code, create, err = spillway("mapping", "suggest", "-s", shop, "--sql")
    assert code == 0, err
    database_of_user.execute(create.encode())
    code, proposal, err = spillway("mapping", "suggest", "-s", shop)
    assert code == 0, err
    toml.write_text(proposal)
    code, _, err = spillway("drain", "-s", shop)
    assert code == 0, err
    found = database_of_user.execute(f"SELECT {COLUMNS} FROM shop_orders ORDER BY placed_at".encode()).fetchall()
    assert found == sorted(order_rows(ORDERS), key=lambda row: row[2])
    assert database_of_user.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_what_is_printed_is_toml_with_the_sql_as_a_comment(
    shop: str, toml: Path, spillway: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    _, proposal, err = spillway("mapping", "suggest", "-s", shop)
    assert "proposed from 300 entries" in err
    toml.write_text(proposal)
    mapping = load_mappings(toml).for_stream(shop)
    assert (mapping.table, mapping.columns["order_id"].ulid) == ("shop_orders", True)
    _, create, _ = spillway("mapping", "suggest", "-s", shop, "--sql")
    comments = [line.removeprefix("# ") for line in proposal.splitlines() if line.startswith("#")]
    assert comments == create.splitlines()


def test_a_file_is_proposed_and_loaded_like_a_stream(
    toml: Path, spillway: RunSpillway, database_of_user: psycopg.Connection, tmp_path: Path
) -> None:
    rows = weather(2_000)
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path = tmp_path / "weather.csv"
    path.write_text(text.getvalue())
    database_of_user.execute(spillway("mapping", "suggest", "-s", str(path), "--sql")[1].encode())
    toml.write_text(spillway("mapping", "suggest", "-s", str(path))[1])
    assert toml.read_text() == '[streams."weather.csv"]\ntable = "weather"\nnull = ["NA"]\n'
    code, _, err = spillway("backfill", str(path), "--yes")
    assert code == 0, err
    found = database_of_user.execute("SELECT origin, time_hour, temp, wind_gust FROM weather").fetchall()
    expected = [(row["origin"], _time(row["time_hour"]), _float(row["temp"]), _float(row["wind_gust"])) for row in rows]
    assert sorted(found, key=str) == sorted(expected, key=str)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _float(text: str) -> float | None:
    return None if text == "NA" else float(text)


CREATE = "CREATE TABLE shop_orders (placed_at timestamptz NOT NULL, order_id uuid, total numeric(5,2), who varchar(5))"
FITTING = """
    [streams."shop-*"]
    table = "shop_orders"
    [streams."shop-*".columns]
    placed_at = "placedAt"
    order_id = { key = "orderId", ulid = true }
    """


def test_check_shows_each_column_with_its_source_and_values_and_writes_nothing(
    shop: str, toml: Path, command_line: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    database_of_user.execute(CREATE.encode())
    toml.write_text(FITTING)
    code, out, err = command_line("mapping", "check", "-s", shop)
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    totals = " · ".join(list(dict.fromkeys(order["total"] for order in ORDERS))[:3])
    assert f"total numeric(5,2) total {totals} 0" in lines
    assert "who varchar(5) who 300" in [line.replace("character varying", "varchar") for line in lines]
    assert any("tenant (in 300)" in line and "customer (in 300)" in line for line in lines)
    assert "300 entries give 300 rows of public.shop_orders: new 300, duplicates 0, rejected 0" in lines
    for table in ("shop_orders", "spillway.ledger", "spillway.quarantine", "spillway.streams"):
        assert database_of_user.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)


def test_check_names_near_misses_and_rows_that_the_mapping_or_the_server_would_reject(
    shop: str, toml: Path, command_line: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    database_of_user.execute(CREATE.encode())
    toml.write_text(FITTING + 'who = "customer.emial"\ntotal = "customer.id"\n')
    code, out, err = command_line("mapping", "check", "-s", shop)
    too_large = sum(order["customer"]["id"] >= 1_000 for order in ORDERS)
    assert code == 1
    assert "warning: customer.emial: in none of 300 entries; customer.email is in 300" in err
    assert_one_error(err, f"shop-orders: {too_large} of 300 rows would be rejected; nothing was written")
    (line,) = [line for line in out.splitlines() if "numeric field overflow" in line or "22003" in line]
    assert line.split()[:2] == [str(too_large), "total"]
    toml.write_text(FITTING.replace("placedAt", "plcedAt"))
    code, out, err = command_line("mapping", "check", "-s", shop)
    assert code == 1
    assert "plcedAt: in none of 300 entries; placedAt is in 300" in err
    assert "300   placed_at   missing field plcedAt" in out


def test_check_names_a_column_that_the_table_does_not_have(
    shop: str, toml: Path, command_line: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    database_of_user.execute(CREATE.encode())
    toml.write_text(FITTING + 'totl = "total"\n')
    code, _, err = command_line("mapping", "check", "-s", shop)
    assert code == 1
    assert_one_error(err, 'names the column "totl", which the table does not have; did you mean "total"?')


def test_check_of_a_route_shows_the_columns_of_each_table(
    toml: Path, command_line: RunSpillway, redis_client: redis.Redis, database_of_user: psycopg.Connection
) -> None:
    database_of_user.execute("CREATE TABLE shop_orders (n int2); CREATE TABLE wrong (n text, who text)")
    for n in range(30):
        redis_client.xadd("mixed", {"n": str(n), "kind": "ab"[n % 2], "who": f"w{n}"})
    redis_client.xadd("mixed", {"n": "40000", "kind": "a"})
    redis_client.xadd("mixed", {"n": "7", "kind": "c"})
    toml.write_text('[streams.mixed]\nroute = { key = "kind", tables = { a = "shop_orders", b = "wrong" } }\n')
    code, out, err = command_line("mapping", "check", "-s", "mixed")
    assert code == 1
    assert_one_error(err, "mixed: 2 of 32 rows would be rejected")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "shop_orders.n int2 n 0 · 2 · 4 0" in lines
    assert "wrong.n text n 1 · 3 · 5 0" in lines
    assert "wrong.who text who w1 · w3 · w5 0" in lines
    assert any("expected a value with a table ('a', 'b'), found 'c'" in line for line in lines)
    assert any(
        line.startswith("32 entries give 32 rows of public.shop_orders, public.wrong: new 30, ") for line in lines
    )


def test_check_as_json_has_everything_and_another_table_can_be_checked(
    shop: str, toml: Path, command_line: RunSpillway, database_of_user: psycopg.Connection
) -> None:
    database_of_user.execute(CREATE.encode())
    database_of_user.execute("CREATE TABLE wrong (placed_at int2 NOT NULL, order_id uuid)")
    toml.write_text(FITTING)
    code, out, _ = command_line("mapping", "check", "-s", shop, "--json")
    found = json.loads(out)
    assert (code, found["table"], found["inserted"], found["rejected"]) == (0, "public.shop_orders", 300, 0)
    assert [column["name"] for column in found["columns"]] == ["placed_at", "order_id", "total", "who"]
    code, out, _ = command_line("mapping", "check", "-s", shop, "--table", "wrong", "--json")
    found = json.loads(out)
    assert (code, found["table"], found["rejected"]) == (1, "public.wrong", 300)


@pytest.mark.parametrize("command", ["check", "suggest"])
def test_a_source_that_is_absent_or_empty_is_one_line(
    command: str, toml: Path, command_line: RunSpillway, redis_client: redis.Redis, tmp_path: Path
) -> None:
    code, _, err = command_line("mapping", command, "-s", "nobody")
    assert code == 1
    assert_one_error(err, "stream 'nobody' does not exist in Redis")
    redis_client.xadd("empty", {"a": "b"}, id="1-1")
    redis_client.xtrim("empty", maxlen=0)
    code, _, err = command_line("mapping", command, "-s", "empty")
    assert code == 1
    assert_one_error(err, "stream 'empty': expected entries, found none")
    path = tmp_path / "x.csv"
    path.write_text("a,b\n")
    code, _, err = command_line("mapping", command, "-s", str(path))
    assert code == 1
    assert_one_error(err, "x.csv: expected rows, found none")
