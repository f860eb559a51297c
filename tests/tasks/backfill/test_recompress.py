"""Compressing beside the loads ends with the flow: it begins no other chunk when that is stopped."""

from __future__ import annotations

import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prefect import flow

from infra.connections.clients import Clients
from infra.settings import settings
from tasks.backfill import recompress as module
from tasks.backfill.recompress import Compressor

CHUNKS = 40


def test_a_flow_that_is_stopped_waits_for_the_chunks_under_way_and_no_others(
    prefect_server: str, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    ended: list[object] = []

    def slowly(connection: psycopg.Connection, again: object, words: object) -> None:
        begun.append(again)
        time.sleep(0.2)
        ended.append(again)

    chunks: Any = SimpleNamespace(fn=lambda *_: list(range(CHUNKS)))
    monkeypatch.setattr(module, "find_to_compress", chunks)
    monkeypatch.setattr(module, "compress_again", slowly)

    @flow
    def stopped() -> None:
        source: Any = SimpleNamespace(all_days={1, 2, 3})
        with Clients(settings()) as clients, closing(Compressor(clients, [source])) as compressor:
            for _ in range(4):
                compressor.passed(9)
            while len(begun) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert 2 <= len(begun) < 10
    assert len(ended) == len(begun)
