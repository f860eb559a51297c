"""Servers of one's own for as long as a block runs: tests and benchmarks touch nobody's data."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from infra.schema.migrate import apply_schema
from infra.servers.choose import pick
from infra.servers.engine import Engine
from infra.servers.ports import free_port
from infra.settings import Settings


@contextmanager
def throwaway_servers(purpose: str, engine_name: str | None = None) -> Iterator[tuple[Settings, Engine]]:
    """Both servers on free ports with the schema applied, by the engine of that name or the first that can work.

    Stopped and removed, data and all, at the end. Raises `Terminal` where no engine can work.
    """
    name = f"{purpose}-{uuid.uuid4().hex[:8]}"
    # By keyword, so that neither URL nor port is taken from the environment or from .env.
    settings = Settings(
        instance=name,
        redis_port=free_port(),
        postgres_port=free_port(),
        redis_url=SecretStr(""),
        database_url=SecretStr(""),
        _env_file=None,
    )
    engine, _ = pick(settings, engine_name)
    engine.up()
    try:
        apply_schema(settings.database)
        yield settings, engine
    finally:
        engine.reset()
