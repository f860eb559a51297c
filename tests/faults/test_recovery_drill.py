"""The recovery drill in its short form: backup, destruction, restore to a moment, and a move by dump and restore."""

from __future__ import annotations

import pytest

from infra.servers.process import ProcessEngine
from tests.faults.recovery_drill import run
from tests.support.servers import Servers


def test_a_restored_database_drains_what_redis_still_has_and_reports_the_rest(
    servers: Servers, env: dict[str, str]
) -> None:
    if not isinstance(servers.engine, ProcessEngine):
        pytest.skip("the drill copies the files of servers that are processes of this machine")
    lines: list[str] = []
    run(servers.engine, servers.settings, 1_000, lines.append)
    assert any("lost nothing; 0s lost" in line for line in lines), lines
    assert lines[-1].startswith("drains went on there")
