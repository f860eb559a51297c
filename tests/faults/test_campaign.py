"""Every kind of fault once, with a fixed seed, and some with several drains. `make chaos` injects hundreds in a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.faults.campaign.cluster import ClusterTestbed
from tests.faults.campaign.fault_series import FaultSeries
from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.run_fault import run_fault
from tests.faults.campaign.shared import SharedSeries
from tests.faults.campaign.testbed import FaultTestbed, running_testbed
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def testbed(servers: Servers, prefect_server: str) -> Iterator[FaultTestbed]:
    """The servers of the session, each behind a proxy."""
    with running_testbed(servers.settings, servers.engine, prefect_server) as made:
        yield made


_QUICK = [kind for kind, fault in KINDS.items() if not (fault.slow or fault.shared)]
# Those that stop some drains, which others then have to go on without, and those that need several.
_SHARED = ["process-killed", "process-stopped", *(kind for kind, fault in KINDS.items() if fault.shared)]


@pytest.mark.parametrize("kind", _QUICK)
def test_after_a_fault_nothing_is_lost_or_doubled_and_no_manual_work_is_needed(
    kind: str, testbed: FaultTestbed, stream: str
) -> None:
    if reason := KINDS[kind].impossible(testbed):
        pytest.skip(reason)
    seed = zlib.crc32(kind.encode())
    testbed.empty()
    result = run_fault(testbed, FaultSeries(stream, seed), kind, seed)
    testbed.empty()
    print(result, *result.errors, result.log, sep="\n")
    assert result.good, str(result)


@pytest.mark.parametrize("kind", _SHARED)
def test_drains_that_share_their_streams_lose_and_double_nothing_after_a_fault(
    kind: str, testbed: FaultTestbed, stream: str
) -> None:
    if reason := KINDS[kind].impossible(testbed):
        pytest.skip(reason)
    used = ClusterTestbed.of(testbed) if KINDS[kind].on_cluster else testbed
    seed = zlib.crc32(kind.encode())
    used.empty()
    result = run_fault(used, SharedSeries(stream, seed), kind, seed)
    used.empty()
    print(result, *result.errors, result.log, sep="\n")
    assert result.good, str(result)
