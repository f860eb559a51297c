"""Every kind of fault once, with a fixed seed. `make chaos` injects hundreds in a row."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest

from tests.faults.campaign.kinds import KINDS
from tests.faults.campaign.leg import Leg
from tests.faults.campaign.play import play
from tests.faults.campaign.world import World, made_world
from tests.support.servers import Servers


@pytest.fixture(scope="module")
def world(servers: Servers, prefect_server: str) -> Iterator[World]:
    """The servers of the session, each behind a proxy."""
    with made_world(servers.settings, servers.engine, prefect_server) as made:
        yield made


_QUICK = [kind for kind, fault in KINDS.items() if not fault.slow]


@pytest.mark.parametrize("kind", _QUICK)
def test_a_fault_loses_doubles_and_hides_nothing_and_needs_no_hand(kind: str, world: World, stream: str) -> None:
    if reason := KINDS[kind].impossible(world):
        pytest.skip(reason)
    seed = zlib.crc32(kind.encode())
    world.empty()
    result = play(world, Leg(stream, seed), kind, seed)
    world.empty()
    print(result, *result.errors, result.log, sep="\n")
    assert result.good, str(result)
