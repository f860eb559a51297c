"""The oracle of random tables knows the right answers, and its comparison finds every kind of damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.connections.clients import Clients
from tests.any_table.campaign import prepared
from tests.any_table.columns import Column
from tests.any_table.compare import PredictedEntries, differences
from tests.any_table.draining import drain
from tests.any_table.oracle import Prediction, TableOracle, TwinTables
from tests.any_table.tables import RandomTable
from tests.fuzz.prediction import Fate
from tests.fuzz.streams import add
from tests.support.servers import Servers

TABLE = RandomTable(
    "known",
    "plain",
    (
        Column("id", "int4", "int4", required=True, key=True),
        Column("price", "numeric(5,2)", "decimal"),
        Column("code", "varchar(3)", "short"),
        Column("day", "date", "date"),
        Column("tags", "int4[]", "int4[]"),
        Column("doc", "json", "json"),
        Column("size", "int2", "int2", default="7"),
    ),
    key=("id",),
    constraints=("PRIMARY KEY (id)", "CHECK (price <> 13)"),
)
REFUSED = Fate.REFUSED
ROW, DUPLICATE, CONFLICT = map(Prediction, (Fate.ROW, Fate.DUPLICATE, Fate.CONFLICT))
# Entries in this order, and what becomes of each.
KNOWN: list[tuple[str, Prediction]] = [
    ('{"id": 1, "price": 1.005, "code": "abc ", "day": "2026-01-05", "tags": [1, null], "doc": {"a":1.0}}', ROW),
    ('{"id": "1", "price": 1.01, "code": "abc", "day": 1767571200, "tags": "{1,NULL}", "doc": {"a":1.0}}', DUPLICATE),
    ('{"id": 1, "price": 1.01, "code": "abc", "day": "2026-01-05", "tags": [1, null], "doc": {"a":1}}', CONFLICT),
    ('{"id": 1}', CONFLICT),
    ('{"id": 2, "size": 9}', ROW),
    ('{"id": 2}', DUPLICATE),
    ('{"id": 2, "size": 7}', CONFLICT),
    ('{"id": 2147483648}', Prediction(REFUSED, frozenset({"id"}))),
    ('{"id": 3.0}', Prediction(REFUSED, frozenset({"id"}))),
    ('{"id": null}', Prediction(REFUSED, frozenset({"id"}))),
    ('{"id": 4, "price": 999.995, "code": "abcd"}', Prediction(REFUSED, frozenset({"price", "code"}))),
    ('{"id": 4, "day": "2026-01-05T10:00:00Z"}', Prediction(REFUSED, frozenset({"day"}))),
    ('{"id": 4, "day": "now"}', Prediction(REFUSED, frozenset({"day"}))),
    ('{"id": 4, "tags": {}}', Prediction(REFUSED, frozenset({"tags"}))),
    ('{"id": 4, "price": {}}', Prediction(REFUSED, frozenset({"price"}))),
    ('{"id": 4, "price": 13}', Prediction(REFUSED, frozenset(), broken_rule=True)),
    ('{"id": 4, "price": "NaN", "day": "infinity"}', ROW),
    ("[]", Prediction(REFUSED)),
]  # fmt: skip


@pytest.fixture
def twins(database: psycopg.Connection) -> Iterator[TwinTables]:
    with prepared(database):
        for schema in ("any_table", "twin"):
            for statement in TABLE.statements(schema):
                database.execute(statement.encode())
        database.execute("CREATE TABLE probe.known (LIKE twin.known INCLUDING DEFAULTS)")
        yield TwinTables("twin.known", "probe.known")


def entries() -> list[tuple[str, list[bytes]]]:
    return [(f"{number}-0", [b"data", text.encode()]) for number, (text, _) in enumerate(KNOWN, 1)]


def test_the_oracle_knows_what_becomes_of_each_entry(database: psycopg.Connection, twins: TwinTables) -> None:
    oracle = TableOracle(database, twins, TABLE.key)
    found = [(text, oracle.predict([b"data", text.encode()])) for text, _ in KNOWN]
    assert found == KNOWN
    rows = database.execute("SELECT id, price::text, code, day::text, tags, doc::text, size FROM twin.known ORDER BY 1")
    assert rows.fetchall() == [
        (1, "1.01", "abc", "2026-01-05", [1, None], '{"a":1.0}', 7),
        (2, None, None, None, None, None, 9),
        (4, "NaN", None, "infinity", None, None, 7),
    ]


DAMAGE = {
    "a row is missing": "DELETE FROM any_table.known WHERE id = 2",
    "a row is there too often": "ALTER TABLE any_table.known DROP CONSTRAINT known_pkey;"
    " INSERT INTO any_table.known SELECT * FROM any_table.known WHERE id = 2",
    "a value differs in a digit": "UPDATE any_table.known SET doc = '{\"a\":1}' WHERE id = 1",
    "an entry is not in the quarantine": "DELETE FROM spillway.quarantine WHERE entry_id = '8-0'",
    "a conflict is called refused": "UPDATE spillway.quarantine SET kind = 'refused' WHERE kind = 'conflict'",
    "raw fields differ": "UPDATE spillway.quarantine SET fields = '{a}' WHERE entry_id = '8-0'",
    "another column is at fault": "UPDATE spillway.quarantine SET field = 'code' WHERE entry_id = '8-0'",
    "the sums differ": "UPDATE spillway.ledger SET duplicates = duplicates + 1, inserted = inserted - 1"
    " WHERE inserted > 0",
}


@pytest.mark.usefixtures("redis_client")
def test_the_comparison_finds_nothing_in_a_good_drain_and_every_kind_of_damage(
    database: psycopg.Connection, twins: TwinTables, servers: Servers, tmp_path: Path
) -> None:
    predicted = PredictedEntries(TableOracle(database, twins, TABLE.key))
    for entry_id, fields in entries():
        predicted.predict(entry_id, fields)
    (tmp_path / "spillway.toml").write_text('[streams."known"]\ntable = "any_table.known"\nlayout = "json"\n')
    with Clients(servers.settings) as clients:
        add(clients.redis, "known", entries())
        drain(clients, "known", tmp_path / "spillway.toml", 7)

    def found() -> list[str]:
        return differences(database, "known", predicted, ("any_table.known", "twin.known"), TABLE)

    assert found() == []
    for kind, statements in DAMAGE.items():
        with database.transaction(force_rollback=True):
            database.execute(statements.encode())
            assert found(), kind
