"""Checks the mapping of a stream against a sample of its entries."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from infra.connections.clients import Clients
from tasks.base.addresses import id_text
from tasks.base.step import step
from tasks.columns.entries import EntryColumns, page_to_columns
from tasks.columns.row_layout import RowLayout
from tasks.preflight.mapping_fit import check_mapping
from tasks.preflight.table_fit import identity_notes
from tasks.streams.limited_reply import ReplyTooLarge, execute_limited
from tasks.streams.reader import Reader

_OLDEST = 1_000  # entries
_NEWEST = 100  # entries; enough to see whether the stream changed, and read only if the oldest do not fit


@step("sample")
def check_sample(clients: Clients, reader: Reader, layout: RowLayout, upto: int) -> list[str]:
    """`check_mapping` of the entries that `reader` reads next, and if they do not fit, of the newest ones up to `upto`.

    Returns warnings and notes. Raises `Terminal` if the mapping does not fit, `Transient` for a fault of Redis.
    """

    def newest() -> Sequence[EntryColumns]:
        for count in (_NEWEST, 1):
            command = ("XREVRANGE", reader.stream, id_text(upto), "-", "COUNT", count)
            with suppress(ReplyTooLarge):
                (page,) = execute_limited(clients.redis, [command])
                if isinstance(page, Exception):
                    raise page
                return page_to_columns(page) if page else []
        return []

    with clients.translate_errors(f"read {reader.stream}"):
        return [*check_mapping(reader.stream, layout, reader.sample(_OLDEST), newest), *identity_notes([layout])]
