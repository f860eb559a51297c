"""The role of `spillway grants --for metrics`: it reads the ledger, and cannot read one event."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flows.metrics_server import metrics_text
from flows.plain.drain import drain
from infra.producers.send import send
from infra.schema.migrate import apply_schema
from infra.settings import Settings, settings
from tasks.preflight.redis_rights import redis_rights
from tasks.preflight.rights import rights, statements
from tests.support.metrics import samples
from tests.support.redis_user import PASSWORD, USER, set_user
from tests.support.servers import Servers
from tests.support.stream_entries import event

ROLE, DATABASE = "spillway_metrics", "metrics_role"
_NOTHING_FOR_ALL = f"""
    REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC; GRANT CONNECT ON DATABASE {DATABASE} TO PUBLIC;
    REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE ALL ON spillway.instance FROM PUBLIC"""


@pytest.fixture
def owner_url(servers: Servers) -> Iterator[str]:
    """The owner's URL of a database of its own, in which no other role has any right."""
    url = make_conninfo(servers.settings.database, dbname=DATABASE)
    with psycopg.connect(servers.settings.database, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0".encode())
        admin.execute(f"DROP ROLE IF EXISTS {ROLE}".encode())
        admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'm'".encode())
        apply_schema(url)
        yield url
        admin.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)".encode())
        admin.execute(f"DROP ROLE {ROLE}".encode())


@pytest.fixture
def redis_user(redis_client: redis.Redis) -> Iterator[tuple[str, str]]:
    """A user of Redis who may read streams, and nothing else: name and password."""
    set_user(redis_client, redis_rights(["metrics"], ["*"], settings(), cluster=False))
    yield USER, PASSWORD
    redis_client.acl_deluser(USER)


def test_a_read_only_role_and_a_read_only_user_export_what_the_owner_exports(
    owner_url: str, redis_user: tuple[str, str], redis_client: redis.Redis, servers: Servers, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    config = configure(database_url=owner_url)
    send(redis_client, stream, [event(1), event(1), event(2, time="soon")])
    drain(stream)
    send(redis_client, stream, [event(5)])
    by_owner, faults = metrics_text(config)
    assert not faults
    found = conninfo_to_dict(servers.settings.database)
    as_role = f"postgresql://{ROLE}:m@{found['host']}:{found['port']}/{DATABASE}"
    name, password = redis_user
    address = servers.settings.redis.partition("//")[2].rpartition("@")[2]
    least = configure(database_url=as_role, redis_url=f"redis://{name}:{password}@{address}")
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(_NOTHING_FOR_ALL.encode())
        wanted = statements(rights("metrics"), ROLE, DATABASE)
        _, faults = metrics_text(least)
        assert "lacks rights that `spillway metrics` needs; nothing was read or written" in faults["postgresql"]
        assert all(statement in faults["postgresql"] for statement in wanted)
        for statement in wanted:
            owner.execute(statement.encode())
    by_role, faults = metrics_text(least)
    assert not faults
    ages = "spillway_stream_lag_seconds"
    expected, got = samples(by_owner), samples(by_role)
    assert got.pop(ages).keys() == expected.pop(ages).keys()
    assert got == expected
    with psycopg.connect(as_role, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM public.events")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE spillway.streams SET lost = 0")
    with redis.Redis.from_url(least.redis) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.delete(stream)
