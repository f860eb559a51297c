"""The next step at the end of an error of a server: it fits the error, and it belongs to the command that failed."""

from __future__ import annotations

import psycopg
import pytest
import redis
from redis.sentinel import MasterNotFoundError

from infra.connections.clients import Clients
from infra.errors.exceptions import NoAnswer, PasswordMissing, Transient, UnknownHost
from infra.errors.next_steps import next_step
from infra.settings import Settings
from tests.faults.campaign.texts import wrong_text
from tests.support.sqlstates import TRANSIENT_STATES, error_of_state

COMMANDS = (
    "drain",
    "backfill",
    "maintain",
    "reconcile",
    "status",
    "quarantine list",
    "quarantine redrive",
    "stream accept-loss",
    "stream recover",
)
TRANSIENT_ERRORS: dict[str, psycopg.Error | redis.RedisError] = {
    "deadlock": error_of_state("40P01"),
    "lock timeout": error_of_state("55P03"),
    "statement timeout": error_of_state("57014"),
    "disk full": error_of_state("53100"),
    "server shutting down": error_of_state("57P01"),
    "server away": psycopg.OperationalError("connection refused"),
    "server silent": NoAnswer("no answer"),
    "Redis away": redis.exceptions.ConnectionError("refused"),
    "Redis silent": redis.exceptions.TimeoutError("no answer"),
    "Redis loading": redis.exceptions.BusyLoadingError("LOADING"),
    "Sentinels without a primary": MasterNotFoundError("No master found"),
    "moved in a Cluster": redis.exceptions.MovedError("1 127.0.0.1:7000"),
}


@pytest.mark.parametrize("error", TRANSIENT_ERRORS.values(), ids=TRANSIENT_ERRORS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_transient_error_advises_to_repeat_the_command_that_failed_and_no_other(
    command: str, error: psycopg.Error | redis.RedisError
) -> None:
    settings = Settings(database_url="postgresql://u@h:1/d", redis_url="redis://h:1/0", _env_file=None)
    with pytest.raises(Transient) as raised, Clients(settings, command) as clients, clients.translate_errors("a step"):
        raise error
    text = str(raised.value)
    assert text.endswith(f"run `spillway {command}` again")
    assert not [other for other in COMMANDS if other != command and f"`spillway {other}`" in text]
    assert "{" not in text


@pytest.mark.parametrize("state", TRANSIENT_STATES)
def test_the_campaign_of_faults_accepts_the_text_of_every_transient_error(state: str) -> None:
    """It is one line of step, object, server, cause and next step."""
    settings = Settings(database_url="postgresql://u@127.0.0.1:1/d", redis_url="redis://h:1/0", _env_file=None)
    raised = pytest.raises(Transient)
    with raised as error, Clients(settings, "drain") as clients, clients.translate_errors("load s 1-0..2-0"):
        raise error_of_state(state)
    assert wrong_text(f"Transient: {error.value}", ["127.0.0.1:1"]) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_only_a_command_that_loads_batches_is_advised_to_load_smaller_ones(command: str) -> None:
    loads = command in ("drain", "backfill", "quarantine redrive")
    for state in ("57014", "53200"):
        assert ("SPILLWAY_BATCH_ROWS" in next_step(error_of_state(state), command)) is loads
    assert ("SPILLWAY_PARALLEL_LOADS" in next_step(error_of_state("53300"), command)) is loads


def test_without_a_command_the_step_is_to_be_repeated() -> None:
    assert next_step(error_of_state("40P01")).endswith("; try again")


@pytest.mark.parametrize("state", TRANSIENT_STATES)
def test_every_transient_error_of_postgresql_has_its_own_next_step(state: str) -> None:
    step = next_step(error_of_state(state))
    assert step != "see docs/operations.md"
    assert ("start it" in step) == (state[:2] == "08"), "a server that answers need not be started"


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (psycopg.OperationalError("connection refused"), "start it"),
        (UnknownHost("no such host"), "fix the host"),
        (PasswordMissing("fe_sendauth: no password supplied"), "fix user and password"),
        (psycopg.OperationalError("server does not support SSL, but SSL was required"), "TLS options"),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), "see why the server or the network"),
        (psycopg.errors.InvalidPassword("no"), "fix user and password"),
        (psycopg.errors.ProgramLimitExceeded("index row too large"), "see docs/operations.md"),
        (psycopg.errors.UndefinedTable("no table"), "spillway schema"),
        (redis.exceptions.ConnectionError("refused"), "start it"),
        (redis.exceptions.TimeoutError("no answer"), "SPILLWAY_REDIS_TIMEOUT"),
        (redis.exceptions.BusyLoadingError("LOADING"), "loaded its data"),
        (redis.exceptions.MaxConnectionsError("max number of clients reached"), "maxclients"),
        (redis.exceptions.MasterDownError("MASTERDOWN"), "primary"),
        (redis.exceptions.AuthenticationError("WRONGPASS"), "fix user and password"),
        (redis.exceptions.NoPermissionError("NOPERM"), "ACL SETUSER"),
    ],
)
def test_the_next_step_fits_the_error(error: psycopg.Error | redis.RedisError, step: str) -> None:
    assert step in next_step(error)


def test_if_the_server_has_no_room_for_locks_it_needs_more_of_them_and_not_more_memory(
    database: psycopg.Connection,
) -> None:
    """By its code the server is out of memory."""
    with pytest.raises(psycopg.errors.OutOfMemory) as raised:
        database.execute("SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 10000000) AS n")
    step = next_step(raised.value, "maintain")
    assert "max_locks_per_transaction" in step
    assert step.endswith("run `spillway maintain` again")
    assert "SPILLWAY_BATCH_ROWS" in next_step(raised.value, "drain")
    assert "max_locks" not in next_step(error_of_state("53200"), "drain")
