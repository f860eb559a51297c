"""Drain one stream into its table without Prefect."""

from __future__ import annotations

from pathlib import Path

from infra.connections.clients import Clients
from infra.mapping.toml import load_mappings
from tasks.columns.batch import BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.ledger.plan import make_plan
from tasks.preflight.layouts import read_layout
from tasks.streams.reader import Reader
from tasks.table.insert import InsertRoute
from tasks.table.load import load_batch
from tests.fuzz.streams import EARLIEST, LATEST

__all__ = ["EARLIEST", "LATEST", "drain"]


def drain(clients: Clients, stream: str, mappings: Path, batch_rows: int) -> None:
    """Drain one stream as the flow does, one batch after the other."""
    limits = BatchLimits(batch_rows, clients.settings.batch_bytes)
    window, route = TimeWindow(EARLIEST, LATEST), InsertRoute.STRAIGHT
    mapping = load_mappings(mappings).for_stream(stream)
    assert mapping is not None  # the campaign has written one
    with clients.postgres() as connection:
        layout = read_layout(connection, mapping)
        planned = make_plan(clients.redis, connection, stream, table=layout.table.regclass)
        reader = Reader(clients.redis, stream, planned.gaps, planned.tail, limits, layout, window)
        while (batch := reader.read()) is not None:
            route = load_batch(connection, batch, "any-table", route).next_route
