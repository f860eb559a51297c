"""Streams into tables of a user under faults: two of different shape side by side, and one without a key."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.faults.campaign.run_fault import run_fault
from tests.faults.campaign.testbed import FaultTestbed, running_testbed
from tests.faults.campaign.user_tables import VISITS, KeylessSeries, UserTableSeries, compressed_chunks
from tests.faults.campaign.verdict import Verdict
from tests.support.servers import Servers

KINDS = ("process-killed", "postgres-restarted-immediate", "network-postgres-cut-in-reply", "redis-clients-killed")


@pytest.fixture(scope="module")
def testbed(servers: Servers, prefect_server: str) -> Iterator[FaultTestbed]:
    """The servers of the session, each behind a proxy."""
    with running_testbed(servers.settings, servers.engine, prefect_server) as made:
        yield made
        with made.sql() as connection:
            connection.execute("DROP SCHEMA IF EXISTS users CASCADE")


def run_all(testbed: FaultTestbed, series: UserTableSeries) -> None:
    """Several faults in a row on one series."""
    for kind in KINDS:
        result = run_fault(testbed, series, kind, zlib.crc32(f"{series.name} {kind}".encode()))
        print(result, *result.errors, result.log, sep="\n")
        assert result.good, str(result)


def test_after_faults_two_tables_of_different_shape_hold_each_their_own_rows(
    testbed: FaultTestbed, stream: str
) -> None:
    testbed.empty()
    run_all(testbed, UserTableSeries(stream, 5))
    testbed.empty()


@pytest.mark.community
@pytest.mark.usefixtures("community")
def test_after_faults_a_table_without_a_key_has_each_entry_once_compressed_while_it_was_loaded(
    testbed: FaultTestbed, stream: str
) -> None:
    testbed.empty()
    series = KeylessSeries(stream, 6)
    run_all(testbed, series)
    with testbed.sql() as connection:
        assert compressed_chunks(connection, VISITS) > 0
        # The verdict sees what it should: a row too many, one too few, and one that was changed.
        one = '(SELECT "Time" FROM users.visits WHERE user_id <> %s ORDER BY "Time" LIMIT 1)'
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO users.visits SELECT * FROM users.visits LIMIT 1")
            assert series.judge(connection) == Verdict(doubled=1)
        with connection.transaction(force_rollback=True):
            connection.execute(f'DELETE FROM users.visits WHERE "Time" = {one}', [""])
            assert series.judge(connection).lost >= 1
    testbed.empty()
