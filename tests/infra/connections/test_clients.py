"""Connections: the options of a URL reach the client, and every wait has a limit."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest
import redis
from pydantic import SecretStr

from infra.connections.clients import Clients, postgres_connection, redis_client
from infra.errors.exceptions import NoAnswer, Terminal, Transient
from infra.settings import Settings, host_of
from tests.support.proxy import Proxy
from tests.support.servers import Servers
from tests.support.waiting import wait_until


def test_a_rediss_url_means_tls_and_a_redis_url_does_not() -> None:
    plain = redis_client(Settings(redis_url="redis://h:1/0", _env_file=None))
    tls = redis_client(Settings(redis_url="rediss://h:1/0?ssl_cert_reqs=none", _env_file=None))
    assert not issubclass(plain.connection_pool.connection_class, redis.SSLConnection)
    assert issubclass(tls.connection_pool.connection_class, redis.SSLConnection)
    assert tls.connection_pool.connection_kwargs["ssl_cert_reqs"] == "none"


def test_sslmode_reaches_the_server(servers: Servers) -> None:
    """The test servers have no TLS, so asking for it must fail for that reason."""
    settings = Settings(database_url=servers.settings.database + "?sslmode=require", _env_file=None)
    refused = pytest.raises(Terminal, match="does not support SSL")
    with Clients(settings) as clients, refused, clients.translate_errors("connect"), clients.postgres():
        pass


def test_statements_locks_and_idle_transactions_have_time_limits(servers: Servers) -> None:
    bounded = servers.settings.model_copy(update={"statement_timeout": 90, "lock_timeout": 50.1})
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    with postgres_connection(bounded) as connection:
        query = (
            "SELECT array_agg(current_setting(name) ORDER BY n) FROM unnest(%s::text[]) WITH ORDINALITY AS s(name, n)"
        )
        row = connection.execute(query, [list(names)]).fetchone()
    assert row == (["90s", "50100ms", "90s"],)
    soon = servers.settings.model_copy(update={"statement_timeout": 0.2})
    # By its own limit; if this process stands still meanwhile, by that of its transaction or of a silent server.
    with postgres_connection(soon) as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT pg_sleep(3600)")


def test_a_connection_is_reused_unless_its_step_failed(servers: Servers) -> None:
    with Clients(servers.settings) as clients:
        with clients.postgres() as first:
            pass
        with clients.postgres() as second, clients.postgres() as third:
            assert second is first
            assert third is not first
        with (
            pytest.raises(Terminal, match="syntax error"),
            clients.translate_errors("ask"),
            clients.postgres() as failed,
        ):
            failed.execute("SELEKT 1")
        assert failed.closed
    assert first.closed
    assert third.closed


def test_an_error_names_the_step_the_server_and_the_next_step() -> None:
    settings = Settings(database_url="postgresql://u:hush@127.0.0.1:1/d", _env_file=None)
    refused = pytest.raises(Transient)
    with (
        Clients(settings) as clients,
        refused as error,
        clients.translate_errors("load s 1-0..2-0"),
        clients.postgres(),
    ):
        pass
    said = str(error.value)
    assert said.startswith("load s 1-0..2-0: PostgreSQL at 127.0.0.1:1: ")
    assert "spillway up" in said
    assert "hush" not in said


def test_a_silent_server_is_given_up_and_another_attempt_works(servers: Servers) -> None:
    """The network stalls but its other end still acknowledges: neither keepalives nor the server help."""
    host, port = host_of(servers.settings.database).rsplit(":", 1)
    with Proxy(host, int(port)) as net:
        url = servers.settings.database.replace(f"{host}:{port}", f"127.0.0.1:{net.port}")
        settings = servers.settings.model_copy(update={"database_url": SecretStr(url), "statement_timeout": 60})
        with Clients(settings) as clients:
            silent = pytest.raises(
                Transient, match=r"no answer for 1 s, .* given up; see why the server or the network is stalled"
            )
            with silent, clients.translate_errors("load s 1-0..2-0"), clients.postgres() as connection:
                stall_in_copy(connection, net)
            net.pass_on()
            with clients.translate_errors("load s 1-0..2-0"), clients.postgres() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)


def stall_in_copy(connection: Any, net: Proxy) -> None:
    assert connection.silence_limit == 65  # a little longer than a statement may take
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE rows (n int)")
        with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            copy.write("1\n")
            net.stall()
            connection.silence_limit = 1


def test_a_slow_answer_is_not_given_up_while_it_keeps_coming(servers: Servers) -> None:
    """The limit is for silence, not for the whole answer."""

    def all_came() -> bool:
        """False if the machine stood still for so long that the server was silent."""
        with postgres_connection(servers.settings) as connection, connection.cursor() as cursor:
            connection.silence_limit = 0.5
            with suppress(NoAnswer):
                rows = cursor.stream("SELECT repeat('x', 9000), pg_sleep(0.1) FROM generate_series(1, 12)")
                return len(list(rows)) == 12
        return False

    wait_until(all_came)
    with postgres_connection(servers.settings) as connection:
        connection.silence_limit = 0.5
        with pytest.raises(psycopg.OperationalError, match="no answer"):
            connection.execute("SELECT pg_sleep(60)")
        assert connection.closed


def test_the_server_notices_within_a_minute_that_a_client_has_vanished(servers: Servers) -> None:
    """During a COPY none of its other timeouts applies."""
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with postgres_connection(servers.settings) as connection:
        found = [connection.execute(f"SELECT current_setting('{name}')::int").fetchone() for name in names]
    idle, interval, count = (row[0] for row in found if row)
    assert 0 < idle + interval * count <= 60
