"""Connections: what a URL asks for reaches the client, and nothing waits for ever."""

from __future__ import annotations

import psycopg
import pytest
import redis

from infra.connections import Clients, postgres_connection, redis_client
from infra.errors import Terminal, Transient
from infra.settings import Settings
from tests.conftest import Servers


def test_a_rediss_url_asks_for_tls_and_a_redis_url_does_not() -> None:
    plain = redis_client(Settings(redis_url="redis://h:1/0", _env_file=None))
    tls = redis_client(Settings(redis_url="rediss://h:1/0?ssl_cert_reqs=none", _env_file=None))
    assert not issubclass(plain.connection_pool.connection_class, redis.SSLConnection)
    assert issubclass(tls.connection_pool.connection_class, redis.SSLConnection)
    assert tls.connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"


def test_sslmode_reaches_the_server(servers: Servers) -> None:
    """The test servers have no TLS, so asking for it must fail for that reason."""
    settings = Settings(database_url=servers.settings.database + "?sslmode=require", _env_file=None)
    refused = pytest.raises(Terminal, match="does not support SSL")
    with Clients(settings) as clients, refused, clients.explained("connect"), clients.postgres():
        pass


def test_statements_locks_and_idle_transactions_are_bounded(servers: Servers) -> None:
    bounded = servers.settings.model_copy(update={"statement_timeout": 0.2, "lock_timeout": 0.1})
    with postgres_connection(bounded) as connection:
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(30)")
        row = connection.execute(
            "SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')"
        ).fetchone()
    assert row == ("100ms", "200ms")


def test_a_connection_is_lent_again_unless_its_step_failed(servers: Servers) -> None:
    with Clients(servers.settings) as clients:
        with clients.postgres() as first:
            pass
        with clients.postgres() as second, clients.postgres() as third:
            assert second is first
            assert third is not first
        with pytest.raises(Terminal, match="syntax error"), clients.explained("ask"), clients.postgres() as failed:
            failed.execute("SELEKT 1")
        assert failed.closed
    assert first.closed
    assert third.closed


def test_an_error_names_the_step_the_server_and_the_next_step() -> None:
    settings = Settings(database_url="postgresql://u:hush@127.0.0.1:1/d", _env_file=None)
    refused = pytest.raises(Transient)
    with Clients(settings) as clients, refused as error, clients.explained("load s 1-0..2-0"), clients.postgres():
        pass
    said = str(error.value)
    assert said.startswith("load s 1-0..2-0: PostgreSQL at 127.0.0.1:1: ")
    assert "spillway up" in said
    assert "hush" not in said


def test_what_is_no_url_is_named_by_its_variable() -> None:
    with pytest.raises(Terminal, match="SPILLWAY_REDIS_URL is no Redis URL"):
        redis_client(Settings(redis_url="http://h/0", _env_file=None))
    with pytest.raises(Terminal, match="SPILLWAY_DATABASE_URL is no PostgreSQL URL"):
        postgres_connection(Settings(database_url="mysql://h/d", _env_file=None))
