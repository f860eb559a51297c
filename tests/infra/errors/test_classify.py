"""Which errors are transient."""

from __future__ import annotations

import psycopg
import pytest
import redis

from infra.errors.classify import is_transient
from infra.errors.exceptions import AlreadyDrained, Terminal, Transient
from tasks.streams.tail import inspect_stream
from tests.support.sqlstates import TRANSIENT_STATES, error_of_state

TERMINAL_STATES = {
    "22P02": "invalid text representation",
    "22021": "character not in repertoire",
    "23505": "unique violation",
    "23P01": "exclusion violation",
    "23514": "check violation",
    "25P02": "in failed transaction",
    "28P01": "invalid password",
    "28000": "invalid authorization",
    "3D000": "no such database",
    "42501": "insufficient privilege",
    "42P01": "undefined table",
    "54001": "statement too complex",
    "55000": "object not in prerequisite state",
    "57P04": "database dropped",
    "XX000": "internal error",
}


@pytest.mark.parametrize("state", TRANSIENT_STATES)
def test_a_transient_sqlstate_is_retried(state: str) -> None:
    assert is_transient(error_of_state(state))


@pytest.mark.parametrize("state", TERMINAL_STATES)
def test_a_terminal_sqlstate_is_not_retried(state: str) -> None:
    assert not is_transient(error_of_state(state))


@pytest.mark.parametrize(
    ("words", "passing"),
    [
        ("connection refused", True),
        ("server closed the connection unexpectedly", True),
        ("timeout expired", True),
        ("server does not support SSL, but SSL was required", False),
        ("SSL error: certificate verify failed", False),
    ],
)
def test_errors_of_libpq_itself_are_classified_by_their_english_messages(words: str, passing: bool) -> None:
    assert is_transient(psycopg.OperationalError(words)) is passing
    assert not is_transient(psycopg.ProgrammingError(words))


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (redis.exceptions.ConnectionError("refused"), True),
        (redis.exceptions.TimeoutError("no answer"), True),
        (redis.exceptions.BusyLoadingError("LOADING"), True),
        (redis.exceptions.MaxConnectionsError("max number of clients reached"), True),
        (redis.exceptions.TryAgainError("TRYAGAIN"), True),
        (redis.exceptions.ReadOnlyError("READONLY"), True),
        (redis.exceptions.OutOfMemoryError("OOM"), True),
        (redis.exceptions.MasterDownError("MASTERDOWN Link with MASTER is down"), True),
        (redis.exceptions.ClusterDownError("CLUSTERDOWN"), True),
        (redis.exceptions.AuthenticationError("WRONGPASS"), False),
        (redis.exceptions.AuthorizationError("no"), False),
        (redis.exceptions.NoPermissionError("NOPERM"), False),
        (redis.exceptions.ResponseError("WRONGTYPE"), False),
        (redis.exceptions.ResponseError("ERR unknown command"), False),
        (redis.exceptions.InvalidResponse("protocol"), False),
        (redis.exceptions.DataError("not bytes"), False),
        (Transient("again"), True),
        (Terminal("never"), False),
        (AlreadyDrained("done"), False),
        (OSError("unknown here"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_is_classified_by_its_class_and_an_unknown_one_is_terminal(
    error: BaseException, passing: bool
) -> None:
    assert is_transient(error) is passing


def test_an_internal_error_is_classified_by_its_place_in_the_server_s_source(database: psycopg.Connection) -> None:
    """Real ones with the SQLSTATE XX000: that of a dropped chunk is transient, one that a function raises is not."""
    with pytest.raises(psycopg.errors.InternalError_) as dropped:
        database.execute("SELECT gin_clean_pending_list(2147483647::oid::regclass)")
    assert (dropped.value.sqlstate, is_transient(dropped.value)) == ("XX000", True)
    with pytest.raises(psycopg.errors.InternalError_) as raised:
        database.execute(
            "DO $$ BEGIN RAISE EXCEPTION 'could not open relation with OID 1' USING ERRCODE = 'XX000'; END $$"
        )
    assert (raised.value.sqlstate, is_transient(raised.value)) == ("XX000", False)


def test_an_absent_stream_is_distinguished_from_another_key_and_from_a_refusal(
    redis_client: redis.Redis, stream: str
) -> None:
    assert inspect_stream(redis_client, stream)[:2] == (None, None)
    redis_client.set(stream, "x")
    with pytest.raises(Terminal, match="expected a stream, found a string; check the name"):
        inspect_stream(redis_client, stream, 1)
    redis_client.delete(stream)
    redis_client.xadd(stream, {"a": "no such key"}, id="1-0")
    tail, found, _ = inspect_stream(redis_client, stream, 1 << 64)
    assert tail is not None
    assert (tail.length, found) == (1, tail.last_hash)
    redis_client.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-xinfo"], reset=True)
    try:
        pool = redis_client.connection_pool.connection_kwargs
        with redis.Redis(host=pool["host"], port=pool["port"], username="blind", password="x") as blind:
            with pytest.raises(redis.exceptions.RedisError) as refused:
                inspect_stream(blind, stream)
            assert not is_transient(refused.value)
    finally:
        redis_client.acl_deluser("blind")
