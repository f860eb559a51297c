"""The entries of a stream by which its mapping is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.connections.clients import Clients
from infra.mapping import Mapping
from tasks.base.addresses import id_text
from tasks.columns.entries import EntryColumns, columns_of_page
from tasks.ledger.plan import DrainPlan
from tasks.preflight.mapping_fit import check_mapping
from tasks.streams.reader import Reader

_ENTRIES = 1_000
_NEWEST = 100  # asked for only when the oldest do not fit: enough to see whether the stream became another one


def check_sample(clients: Clients, reader: Reader, mapping: Mapping | None, planned: DrainPlan) -> list[str]:
    """`check_mapping` of the entries that are read next, and if they do not fit of the newest ones of the stream."""

    def newest() -> Sequence[EntryColumns]:
        page: Any = clients.redis.execute_command(
            "XREVRANGE", planned.stream, id_text(planned.upto), "-", "COUNT", _NEWEST
        )
        return columns_of_page(page) if page else []

    with clients.translate_errors(f"read {planned.stream}"):
        return check_mapping(planned.stream, mapping, reader.sample(_ENTRIES), newest)
