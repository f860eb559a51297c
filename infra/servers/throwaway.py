"""Servers for the duration of a block: tests and benchmarks touch no other data."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from infra.schema.migrate import apply_schema
from infra.servers.choose import choose_engine
from infra.servers.engine import Engine
from infra.servers.ports import free_port
from infra.settings import Settings


@contextmanager
def throwaway_servers(
    purpose: str, engine_name: str | None = None, make_engine: Callable[[Settings], Engine] | None = None
) -> Iterator[tuple[Settings, Engine]]:
    """Both servers on free ports with the schema applied, by the named engine or the first that works here.

    `make_engine`: makes an engine that only tests have, instead.

    They and their data are removed afterwards. Raises `Terminal` if no engine works here.
    """
    name = f"{purpose}-{uuid.uuid4().hex[:8]}"
    # Keywords take precedence over the environment: neither URL nor port comes from there or from .env.
    settings = Settings(
        instance=name,
        redis_port=free_port(),
        postgres_port=free_port(),
        redis_url=SecretStr(""),
        database_url=SecretStr(""),
        _env_file=None,
    )
    engine = choose_engine(settings, engine_name)[0] if make_engine is None else make_engine(settings)
    engine.up()
    try:
        apply_schema(settings.database)
        yield settings, engine
    finally:
        engine.reset()
