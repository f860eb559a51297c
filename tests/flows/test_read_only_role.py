"""Roles that only look: `spillway grants --for metrics`, `report` and `status`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import flows.cli.status_look
import tasks.preflight.preflight
from flows.metrics_server import metrics_text
from flows.plain.drain import drain
from infra.connections.clients import Clients
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.schema.migrate import apply_schema
from infra.settings import Settings, settings
from tasks.preflight.redis_rights import redis_rights
from tasks.preflight.rights import Privilege, rights, statements
from tasks.report.frames import read_frames
from tests.support.command_line import RunSpillway
from tests.support.metrics import samples
from tests.support.redis_user import PASSWORD, USER, set_user
from tests.support.servers import Servers
from tests.support.stream_entries import event

ROLE, DATABASE = "spillway_reader", "reader_role"
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


def role_url(servers: Servers) -> str:
    found = conninfo_to_dict(servers.settings.database)
    return f"postgresql://{ROLE}:m@{found['host']}:{found['port']}/{DATABASE}"


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
    as_role = role_url(servers)
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


def grant_only(owner_url: str, granted: list[Privilege]) -> None:
    """Give the role these rights and no others. In a session of its own: the seventh GRANT on a hypertable in one
    session crashes TimescaleDB 2.19.3."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute(_NOTHING_FOR_ALL.encode())
        owner.execute(f"DROP OWNED BY {ROLE}".encode())
        for statement in statements(granted, ROLE, DATABASE):
            owner.execute(statement.encode())


def _status(command_line: RunSpillway) -> str:
    _, out, _ = command_line("status", "--json")
    found = json.loads(out)
    if not found["streams"]:
        raise Terminal("; ".join(found["problems"]))
    return f"{[(one['name'], one['lag']) for one in found['streams']]} {found['quarantine']}"


def _report(command_line: RunSpillway) -> str:
    with Clients(settings(), "report") as clients:
        found = read_frames(clients, timedelta(days=1))
    return f"{found.outcomes.to_dict('records')} {found.chunks.to_dict('records')} {found.attention}"


@pytest.mark.parametrize("command", ["report", "status"])
def test_a_role_that_can_only_read_sees_what_the_owner_sees(
    command: str, owner_url: str, redis_client: redis.Redis, servers: Servers, stream: str,
    configure: Callable[..., Settings], command_line: RunSpillway, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And not with one right fewer: each is named, and the server refuses without it."""
    monkeypatch.setenv("PREFECT_API_URL", "")  # so that none is asked
    run = {"report": _report, "status": _status}[command]
    configure(database_url=owner_url)
    send(redis_client, stream, [event(1), event(1), event(2, time="soon")])
    drain(stream)
    send(redis_client, stream, [event(5)])
    by_owner = run(command_line)
    assert stream in by_owner
    configure(database_url=role_url(servers))
    for without in rights(command):
        grant_only(owner_url, [right for right in rights(command) if right != without])
        with pytest.raises(Terminal) as refused:
            run(command_line)
        (missing,) = statements([without], ROLE, DATABASE)
        assert f"lacks rights that `spillway {command}` needs" in str(refused.value)
        assert f"run: {missing}; then try again" in str(refused.value)
        with monkeypatch.context() as unchecked:
            for module in (flows.cli.status_look, tasks.preflight.preflight):
                unchecked.setattr(module, "check_rights", lambda *_: None)
            with suppress(Terminal):  # a table that cannot be checked is only a finding of a report
                assert run(command_line) != by_owner, without
    grant_only(owner_url, rights(command))
    assert run(command_line) == by_owner
    with psycopg.connect(role_url(servers), autocommit=True) as connection:
        for query in ("UPDATE spillway.streams SET lost = 0", "DELETE FROM public.events", "CREATE TEMP TABLE t ()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query.encode())
