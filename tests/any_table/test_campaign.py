"""A small share of the campaign of random tables: python -m tests.any_table.campaign runs 20,000 cases."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.connections.clients import Clients
from infra.settings import Settings
from tests.any_table.campaign import TableCase, prepared, run_campaign
from tests.any_table.columns import SCHEMA
from tests.any_table.compare import PredictedEntries, differences
from tests.any_table.entries import Rows
from tests.fuzz.prediction import Fate
from tests.fuzz.seed import SEED
from tests.fuzz.streams import add, ids, settings_of_the_window
from tests.support.server_builds import skip_without
from tests.support.servers import Servers

_CASES = 700
_ROUNDS = ((1, 4), (7, 14), (40, 22))  # few entries of each table, so that there are many tables


@pytest.mark.usefixtures("redis_client")
def test_every_entry_becomes_what_the_server_says_in_tables_of_every_shape(
    servers: Servers, database: psycopg.Connection
) -> None:
    skip_without(database, "libxml", "SELECT '<a/>'::xml")
    with Clients(servers.settings) as clients:
        report = run_campaign(clients, database, f"share {SEED}", _CASES, rounds=_ROUNDS)
    assert report.failures == {}, f"SPILLWAY_TEST_FUZZ_SEED={SEED}"
    assert report.cases >= _CASES
    assert all(report.fates[fate] for fate in Fate), report.fates


_TABLES = 6
_ENTRIES = 80


@pytest.mark.usefixtures("prefect_server")
def test_one_drain_of_several_streams_fills_tables_of_different_shape(
    servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:  # fmt: skip
    mappings = tmp_path / "spillway.toml"
    configure(mappings=mappings, batch_rows=30, parallel_loads=1, max_bad_share=1, **settings_of_the_window())
    cases = []
    for number in count():
        case = TableCase(number, f"flow {SEED}")
        if case.table.kind == "hypertable" and not servers.edition:
            continue
        if all(column.name != "second" for column in case.table.columns):  # see `TableCase.run`
            cases.append(case)
        if len(cases) == _TABLES:
            break
    mappings.write_text("\n".join(case.mapping.toml for case in cases))
    with prepared(database):
        predicted: dict[str, PredictedEntries] = {}
        for case in cases:
            case.create(database)
            predicted[case.stream] = one = PredictedEntries(case.oracle(database))
            rows = Rows(Random(f"flow {SEED} {case.number}"), case.table, case.mapping.naming)
            entries = list(zip(ids(Random(SEED)), rows.entries(_ENTRIES, case.mapping.layout), strict=False))
            for entry_id, fields in entries:
                one.predict(entry_id, fields)
            add(redis_client, case.stream, entries)
        drain("any-table-*")
        for case in cases:
            tables = case.name_in(SCHEMA), case.name_in("twin")
            assert differences(database, case.stream, predicted[case.stream], tables, case.table) == [], (
                case.mapping.toml
            )
