"""Sessions: no setting of a role, a database or the environment changes what is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.connections.clients import postgres_connection
from infra.connections.session import open_session
from infra.errors import connect_sqlstate
from infra.errors.classify import is_transient
from infra.errors.connect_sqlstate import with_sqlstate
from infra.errors.exceptions import Terminal
from infra.errors.next_steps import next_step
from infra.schema.migrate import apply_schema
from tests.support.redis_server import PATIENCE
from tests.support.servers import Servers


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault."""
    monkeypatch.setattr(connect_sqlstate, "_TIME_LIMIT_SECONDS", PATIENCE)


@pytest.fixture
def set_on_role(database: psycopg.Connection) -> Iterator[Callable[[str, str], None]]:
    """Change a setting of the role for all its new sessions until the end of the test."""

    def set_it(name: str, value: str) -> None:
        statement = "ALTER ROLE CURRENT_USER SET {} = {}"
        database.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Literal(value)))

    yield set_it
    database.execute("ALTER ROLE CURRENT_USER RESET ALL")


ODD = {
    "client_encoding": "LATIN1",
    "datestyle": "German, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-5",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1h",
    "synchronous_commit": "off",
    "array_nulls": "off",
    "quote_all_identifiers": "on",
    "session_replication_role": "replica",
    "exit_on_error": "on",
}


def test_settings_of_a_role_do_not_apply_in_our_transactions(
    servers: Servers, set_on_role: Callable[[str, str], None]
) -> None:
    for name, value in ODD.items():
        set_on_role(name, value)
    with closing(postgres_connection(servers.settings)) as connection:
        found = {name: connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in ODD}
        isolation = connection.execute("SHOW transaction_isolation").fetchone()
    assert {name: row[0] for name, row in found.items() if row} == {
        "client_encoding": "UTF8",
        "datestyle": "ISO, YMD",
        "intervalstyle": "postgres",
        "timezone": "UTC",
        "bytea_output": "hex",
        "standard_conforming_strings": "on",
        "extra_float_digits": "1",
        "default_transaction_isolation": "serializable",
        "statement_timeout": "5min",
        "synchronous_commit": "on",
        "array_nulls": "on",
        "quote_all_identifiers": "off",
        "session_replication_role": "origin",
        "exit_on_error": "off",
    }
    assert isolation == ("read committed",)


def test_no_setting_outlives_its_transaction(servers: Servers) -> None:
    """Behind a pooler the session serves other clients afterwards."""
    names = "SELECT name, setting FROM pg_settings WHERE name NOT LIKE 'transaction_%' ORDER BY name"
    with closing(postgres_connection(servers.settings)) as connection:
        before = connection.cursor().execute(names).fetchall()
        with connection.transaction():
            inside = connection.execute(names).fetchall()
        connection.execute("SELECT 1")
        assert connection.cursor().execute(names).fetchall() == before
    assert dict(inside)["lock_timeout"] == "60000" != dict(before)["lock_timeout"]


def test_the_isolation_level_can_still_be_chosen_in_a_transaction(servers: Servers) -> None:
    with closing(postgres_connection(servers.settings)) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)


def test_no_function_of_a_user_hides_a_built_in_one(
    servers: Servers, database: psycopg.Connection, set_on_role: Callable[[str, str], None]
) -> None:
    """Not even if the role's search_path puts it first; triggers still find what they need there."""
    database.execute("CREATE SCHEMA decoy; CREATE FUNCTION decoy.now() RETURNS text LANGUAGE sql AS $$SELECT 'x'$$")
    try:
        database.execute("CREATE TABLE decoy.mine ()")
        set_on_role("search_path", "")
        database.execute("ALTER ROLE CURRENT_USER SET search_path = decoy, public, pg_catalog")
        with closing(postgres_connection(servers.settings)) as connection:
            row = connection.execute("SELECT pg_typeof(now())::text, to_regclass('mine')::text").fetchone()
            assert row == ("timestamp with time zone", "mine")
    finally:
        database.execute("DROP SCHEMA decoy CASCADE")


@pytest.fixture
def latin1(database: psycopg.Connection, servers: Servers) -> Iterator[str]:
    """The URL of a database with the encoding LATIN1."""
    database.execute("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    yield make_conninfo(servers.settings.database, dbname="latin1")
    database.execute("DROP DATABASE latin1 WITH (FORCE)")


def test_a_database_with_another_encoding_than_utf8_is_refused_before_anything_is_written(latin1: str) -> None:
    for ask in (lambda: open_session(latin1, connect_timeout=PATIENCE), lambda: apply_schema(latin1)):
        with pytest.raises(
            Terminal,
            match=r"expected the encoding UTF8, .* found LATIN1; nothing was written; .*createdb --encoding UTF8",
        ):
            ask()
    with psycopg.connect(latin1) as connection:
        assert connection.execute("SELECT to_regclass('spillway.ledger')").fetchone() == (None,)


REFUSALS = {
    "28P01": ({"password": "wrong"}, False, "fix user and password"),
    "3D000": ({"dbname": "nowhere"}, False, "create the database"),
    "28000": ({"user": "nologin"}, False, "fix user and password"),
    "53300": ({"user": "crowded"}, True, "raise max_connections"),
}


@pytest.fixture(params=["C", "de_DE.UTF-8"])
def language(request: pytest.FixtureRequest, database: psycopg.Connection) -> Iterator[str]:
    """The language of the server's messages for refused connections."""
    try:
        database.execute(sql.SQL("ALTER SYSTEM SET lc_messages = {}").format(sql.Literal(request.param)))
    except psycopg.errors.InvalidParameterValue:
        pytest.skip(f"the server's machine does not have {request.param}")
    database.execute("SELECT pg_reload_conf()")
    yield request.param
    database.execute("ALTER SYSTEM RESET lc_messages")
    database.execute("SELECT pg_reload_conf()")


@pytest.fixture
def roles(database: psycopg.Connection) -> Iterator[None]:
    """A role that may not log in, and one that has used up its connections."""
    database.execute("CREATE ROLE nologin NOLOGIN PASSWORD 'analytics_pass'")
    database.execute("CREATE ROLE crowded LOGIN PASSWORD 'analytics_pass' CONNECTION LIMIT 0")
    yield
    database.execute("DROP ROLE nologin; DROP ROLE crowded")


@pytest.mark.parametrize("state", REFUSALS)
def test_a_refused_connection_is_classified_by_its_sqlstate_in_any_language(
    state: str, language: str, roles: None, servers: Servers
) -> None:
    change, passing, step = REFUSALS[state]
    if "password" not in conninfo_to_dict(servers.settings.database):
        pytest.skip("the test servers were given without a password")
    with pytest.raises(psycopg.OperationalError) as refused:
        open_session(make_conninfo(servers.settings.database, **change), connect_timeout=PATIENCE)
    assert refused.value.sqlstate == state
    assert is_transient(refused.value) is passing
    assert step in next_step(refused.value)
    if language.startswith("de"):
        assert "FATAL" in str(refused.value)
        assert "failed for user" not in str(refused.value), "the server speaks English: this tests nothing"


@pytest.mark.parametrize(
    ("change", "passing", "step"),
    [
        ({"port": 1}, True, "start it"),
        ({"host": "nowhere.invalid"}, False, "fix the host"),
        ({"password": ""}, False, "fix user and password"),
        ({"sslmode": "require"}, False, "TLS options"),
        ({"sslmode": "verify-full", "sslrootcert": "/no/such/file"}, False, "TLS options"),
    ],
)
def test_a_fault_of_the_client_is_distinguished_from_a_transient_one(
    change: dict[str, str], passing: bool, step: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(psycopg.OperationalError) as refused:
        open_session(make_conninfo(servers.settings.database, **change), connect_timeout=PATIENCE)
    assert is_transient(refused.value) is passing
    assert step in next_step(refused.value)


def test_settings_of_the_environment_do_not_apply(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGOPTIONS", "-c intervalstyle=sql_standard -c statement_timeout=1000")
    with closing(postgres_connection(servers.settings)) as connection:
        row = connection.execute("SELECT 'Zoë', length('Zoë'), make_interval(0,0,0,1), pg_sleep(1.5)::text").fetchone()
        assert row is not None
        assert row[:2] == ("Zoë", 3)


def test_a_server_that_accepts_the_next_connection_is_not_to_be_started(servers: Servers) -> None:
    """The next connection is to find out why the first was refused, and by then a place may be free."""
    refused = psycopg.OperationalError("FATAL:  sorry, too many clients already")
    found = with_sqlstate(refused, servers.settings.database, PATIENCE)
    assert (found.sqlstate, str(found), is_transient(found)) == ("08006", str(refused), True)
    assert next_step(found, "drain") == "the server accepts connections again by now: run `spillway drain` again"
