"""A small share of the campaign of random tables: python -m tests.any_table.campaign runs 20,000 cases."""

from __future__ import annotations

import psycopg
import pytest

from infra.connections.clients import Clients
from tests.any_table.campaign import run_campaign
from tests.fuzz.prediction import Fate
from tests.fuzz.seed import SEED
from tests.support.servers import Servers

_CASES = 700
_ROUNDS = ((1, 4), (7, 14), (40, 22))  # few entries of each table, so that there are many tables


@pytest.mark.usefixtures("redis_client")
def test_every_entry_becomes_what_the_server_says_in_tables_of_every_shape(
    servers: Servers, database: psycopg.Connection
) -> None:
    with Clients(servers.settings) as clients:
        report = run_campaign(clients, database, f"share {SEED}", _CASES, rounds=_ROUNDS)
    assert report.failures == {}, f"SPILLWAY_TEST_FUZZ_SEED={SEED}"
    assert report.cases >= _CASES
    assert all(report.fates[fate] for fate in Fate), report.fates
