from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.waiting import wait_until


@pytest.fixture
def unsaved(redis_client: redis.Redis) -> Iterator[None]:
    """A Redis that does not save its data by itself, and therefore counts all changes."""

    def is_saving() -> bool:
        found: Any = redis_client.info("persistence")
        return bool(found["rdb_bgsave_in_progress"])

    rules: Any = redis_client.config_get("save")
    redis_client.config_set("save", "")
    wait_until(lambda: not is_saving())
    yield
    redis_client.config_set("save", rules["save"])
