"""Look for streams that have something to drain. This is what a tick of `spillway serve --every` costs otherwise."""

from __future__ import annotations

from infra.connections.clients import Clients
from infra.mapping.toml import configured_mappings
from tasks.base.run_log import run_logger
from tasks.ledger.idle import find_idle
from tasks.preflight.layouts import read_stream_layouts
from tasks.preflight.preflight import preflight
from tasks.streams.pages import AbsenceRecord


def streams_with_work(clients: Clients, wanted: list[str]) -> list[str]:
    """Those of the streams `wanted` (names and patterns) that a drain would not find idle, after its own checks.

    The mapping file is read again each time. Old entries of idle streams are trimmed, as by a drain. Raises
    `SpillwayError`, as a drain would.
    """
    mappings = configured_mappings(clients.settings)
    streams, _ = preflight(clients, wanted, mappings=mappings)
    layouts = read_stream_layouts(clients, {name: mappings.for_stream(name) for name in streams})
    idle = find_idle(clients, {name: layout.table.regclass for name, layout in layouts.items()}, AbsenceRecord())
    for warning in idle.warnings:
        run_logger().warning(warning)
    return [name for name in streams if name not in idle]
