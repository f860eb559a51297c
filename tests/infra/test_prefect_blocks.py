"""URLs in blocks of a real Prefect server: read when a run connects, and never shown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import redis
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
)
from prefect.client.schemas.objects import BlockSchema
from prefect.exceptions import ObjectNotFound
from psycopg.conninfo import conninfo_to_dict

from flows.drain import drain
from infra import prefect_blocks
from infra.errors.exceptions import Terminal, WrongUse
from infra.settings import Settings, settings
from tests.support.oracle import flat_rows, table_rows
from tests.support.prefect_server import run_prefect
from tests.support.programs import BIN
from tests.support.servers import Servers
from tests.support.stream_entries import add_entries, event

MakeBlock = Callable[[str, str, dict[str, Any]], str]


def schema_of(client: SyncPrefectClient, kind: str) -> BlockSchema:
    """The schema of a type of block. A server knows a type of another package once somebody has registered it."""
    try:
        found = client.read_block_type_by_slug(kind)
    except ObjectNotFound:
        found = client.create_block_type(BlockTypeCreate(name=kind.replace("-", " ").title(), slug=kind))
        client.create_block_schema(BlockSchemaCreate(block_type_id=found.id, fields={"type": "object"}))
    return next(one for one in client.read_block_schemas() if one.block_type_id == found.id)


@pytest.fixture
def block(prefect_server: str) -> Iterator[MakeBlock]:
    """Create a block of a type, with these fields; returns its reference."""
    prefect_blocks._kept.clear()
    made = []

    def make(kind: str, name: str, data: dict[str, Any]) -> str:
        with get_client(sync_client=True) as client:
            schema = schema_of(client, kind)
            document = {"block_schema_id": schema.id, "block_type_id": schema.block_type_id}
            made.append(client.create_block_document(BlockDocumentCreate(name=name, data=data, **document)).id)
        return f"prefect://{kind}/{name}"

    yield make
    with get_client(sync_client=True) as client:
        for one in made:
            client.delete_block_document(one)
    prefect_blocks._kept.clear()


def test_a_secret_block_is_the_url(
    block: MakeBlock, servers: Servers, configure: Callable[..., Settings], redis_client: redis.Redis,
    database: psycopg.Connection, stream: str,
) -> None:  # fmt: skip
    url = block("secret", "analytics-db", {"value": servers.settings.database})
    of_redis = block("secret", "analytics-redis", {"value": servers.settings.redis})
    add_entries(redis_client, stream, 0, 10)
    configure(database_url=url, redis_url=of_redis)
    drain(stream)
    assert table_rows(database) == flat_rows(event(n) for n in range(10))


def test_the_credentials_of_prefect_redis_and_prefect_sqlalchemy(
    block: MakeBlock, servers: Servers, configure: Callable[..., Settings]
) -> None:
    """Their fields, as those packages save them; the password has characters that a URL encodes."""
    found = conninfo_to_dict(servers.settings.database)
    parts = {"driver": "postgresql+psycopg2", "database": found["dbname"], "host": found["host"], "port": found["port"]}
    login = {"username": found["user"], "password": "p@ss/:word"}
    at = urlsplit(servers.settings.redis)
    of_redis = {"host": at.hostname, "port": at.port, "db": 3, "password": "p@ss", "ssl": True}
    references = {
        "database_url": block("sqlalchemy-connector", "events-db", {"connection_info": parts | login}),
        "redis_url": block("redis-database", "events-redis", of_redis),
    }
    config = configure(**references)
    assert conninfo_to_dict(config.database) == conninfo_to_dict(
        f"postgresql://{found['user']}:{quote('p@ss/:word', safe='')}@{found['host']}:{found['port']}/{found['dbname']}"
    )
    assert config.redis == f"rediss://:p%40ss@{at.hostname}:{at.port}/3"


def test_a_changed_block_is_used_by_the_next_run_of_a_worker_and_never_shown(
    block: MakeBlock, servers: Servers, worker: str, env: dict[str, str], redis_client: redis.Redis,
    database: psycopg.Connection, stream: str,
) -> None:  # fmt: skip
    wrong = "postgresql://nobody:topsecret@127.0.0.1:1/nowhere"
    reference = block("secret", "moving-db", {"value": wrong})
    add_entries(redis_client, stream, 0, 10)
    environment = env | {"SPILLWAY_DATABASE_URL": reference, "SPILLWAY_RETRIES": "0"}
    command = [BIN / "spillway", "drain", "--stream", stream]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "127.0.0.1:1" in refused.stderr
    assert "topsecret" not in refused.stdout + refused.stderr
    with get_client(sync_client=True) as client:
        found = client.read_block_document_by_name("moving-db", "secret")
        client.update_block_document(found.id, BlockDocumentUpdate(data={"value": servers.settings.database}))
    subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert table_rows(database) == flat_rows(event(n) for n in range(10))
    assert "topsecret" not in run_prefect(env, "flow-run", "ls", "--limit", "20")


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("secret", {"value": 5}, "has no URL; nothing was read"),
        ("secret", {"value": "mysql://etl:topsecret@host/db"}, "expected a URL like postgresql://"),
    ],
    ids=["a number", "another database"],
)
def test_a_block_without_a_url_is_refused_without_its_content(
    block: MakeBlock, configure: Callable[..., Settings], kind: str, data: dict[str, Any], message: str
) -> None:
    config = configure(database_url=block(kind, "no-url", data))
    with pytest.raises((Terminal, WrongUse), match=message) as refused:
        _ = config.database
    assert "topsecret" not in str(refused.value)
    assert "prefect://secret/no-url" in str(refused.value)


def test_a_block_that_does_not_exist_and_a_wrong_reference_are_refused(
    prefect_server: str, configure: Callable[..., Settings]
) -> None:
    with pytest.raises(Terminal, match=r"has no block prefect://secret/nowhere; .*prefect block create secret"):
        _ = configure(redis_url="prefect://secret/nowhere").redis
    with pytest.raises(WrongUse, match="expected prefect://KIND/NAME, where KIND is one of secret, redis-database"):
        configure(redis_url="prefect://scret/nowhere")
    settings.cache_clear()


def test_without_prefect_s_server_the_error_says_what_to_do(env: dict[str, str]) -> None:
    variables = env | {"PREFECT_API_URL": "http://127.0.0.1:1/api", "SPILLWAY_DATABASE_URL": "prefect://secret/none"}
    argv = [BIN / "spillway", "quarantine", "list"]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "SPILLWAY_DATABASE_URL: the block prefect://secret/none could not be read: " in done.stderr
    assert "nothing was changed; start Prefect's server or correct PREFECT_API_URL, then run the command" in done.stderr
