"""`spillway drain` as typed: what it prints, its exit code, and that nothing is written if something is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from infra.producers.send import send
from infra.settings import Settings
from tests.support.command_line import RunSpillway, assert_one_error
from tests.support.oracle import flat_rows, table_rows
from tests.support.programs import BIN
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.tables import nothing_was_written


def test_json_is_one_object_on_the_last_line(
    env: dict[str, str], prefect_server: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """In its own process, as a script would run it."""
    entries = [event(n) for n in range(25)]
    send(redis_client, stream, [*entries, entries[3]])
    done = subprocess.run(
        [BIN / "spillway", "drain", "--stream", stream, "--json"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    seconds, rate, size = result.pop("seconds"), result.pop("events_per_second"), result.pop("bytes")
    assert result == {"read": 26, "inserted": 25, "duplicates": 1, "quarantined": 0, "lost": 0, "lag": 0}
    assert seconds > 0
    assert rate == pytest.approx(26 / seconds, rel=0.02, abs=1)
    assert size >= sum(len(value) for entry in entries for value in entry.values())
    assert table_rows(database) == flat_rows(entries)


def test_totals_are_a_table_for_people(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(n) for n in range(1234)])
    code, out, _ = spillway("drain", "--stream", stream)
    assert code == 0
    assert "1,234" in out
    assert stream in out


def test_an_empty_stream_is_no_error(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    redis_client.xadd(stream, event(1))
    redis_client.xtrim(stream, maxlen=0)
    code, out, _ = spillway("drain", "--stream", stream, "--json")
    assert (code, json.loads(out.splitlines()[-1])["read"]) == (0, 0)
    assert table_rows(database) == {}


def test_a_missing_stream_is_named(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    code, _, err = spillway("drain", "--stream", "no-such-stream")
    assert code == 1
    assert_one_error(err, "'no-such-stream' does not exist in Redis", "check the name")
    assert nothing_was_written(database)


def test_a_key_that_is_not_a_stream_is_named(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    redis_client.set("a-string", "x")
    code, _, err = spillway("drain", "--stream", "a-string")
    assert code == 1
    assert_one_error(err, "stream 'a-string': expected a stream, found a string")


def test_a_wrong_password_of_postgres(
    spillway: RunSpillway, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    redis_client.xadd(stream, event(1))
    configure(database_url=servers.settings.database.replace("analytics_pass", "geheim-wrong"))
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 1
    assert_one_error(err, "password authentication failed", "SPILLWAY_DATABASE_URL")
    assert "geheim-wrong" not in err
    assert nothing_was_written(database)


def test_a_wrong_password_of_redis(
    spillway: RunSpillway, servers: Servers, database: psycopg.Connection, configure: Callable[..., Settings]
) -> None:
    configure(redis_url=servers.settings.redis.replace("redis://", "redis://:geheim-wrong@"))
    code, _, err = spillway("drain", "--stream", "events")
    assert code == 1
    assert_one_error(err, "Redis at 127.0.0.1:", "SPILLWAY_REDIS_URL")
    assert "geheim-wrong" not in err


@pytest.mark.parametrize(("server", "variable"), [("Redis", "redis_url"), ("PostgreSQL", "database_url")])
def test_a_server_that_is_down_is_tried_again_and_then_named(
    server: str, variable: str, spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection,
    stream: str, configure: Callable[..., Settings],
) -> None:  # fmt: skip
    redis_client.xadd(stream, event(1))
    scheme = "redis" if server == "Redis" else "postgresql"
    configure(**{variable: f"{scheme}://127.0.0.1:1/0"})
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 1
    assert_one_error(err, f"{server} at 127.0.0.1:1", "spillway up", f"SPILLWAY_{variable.upper()}")
    assert "trying again" in err
    assert nothing_was_written(database)


def test_a_mapping_that_names_a_missing_key_is_refused_before_anything_is_written(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    mapping = tmp_path / "spillway.toml"
    mapping.write_text(
        f'[streams."{stream}"]\nlayout = "flat"\ntime = "occured_at"\nevent_id = "event_id"\n'
        'event_type = "event_type"\nuser_id = "user_id"\nproperties = "properties"\n'
    )
    configure(mappings=mapping)
    send(redis_client, stream, [event(n) for n in range(10)])
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 1
    fields = "'event_id', 'event_type', 'user_id', 'time', 'properties'"
    assert_one_error(err, f'streams."{stream}".time', "'occured_at'", fields)
    assert nothing_was_written(database)


def test_a_mapping_with_an_unknown_key_is_refused_at_start(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    mapping = tmp_path / "spillway.toml"
    mapping.write_text('[streams."x*"]\nlayout = "flat"\ntiem = "t"\n')
    configure(mappings=mapping)
    redis_client.xadd(stream, event(1))
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 2
    assert_one_error(err, str(mapping), "tiem")
    assert nothing_was_written(database)


@pytest.mark.parametrize("command", [("drain", "--stream", "x"), ("serve",)])
def test_a_prefect_server_that_is_down_is_named(command: tuple[str, ...], env: dict[str, str]) -> None:
    """In its own process: Prefect reads its address once."""
    env = env | {"PREFECT_API_URL": "http://127.0.0.1:1/api"}
    done = subprocess.run([BIN / "spillway", *command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert_one_error(done.stderr, "the Prefect server (http://127.0.0.1:1/api) does not answer", "prefect server start")


def test_an_absent_schema_is_named_with_the_command_that_creates_it(
    spillway: RunSpillway, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings],
) -> None:  # fmt: skip
    redis_client.xadd(stream, event(1))
    configure(database_url=servers.settings.database.rpartition("/")[0] + "/postgres")
    code, _, err = spillway("drain", "--stream", stream)
    assert code == 1
    assert_one_error(err, "spillway schema")
