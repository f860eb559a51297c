"""Streams with unmapped fields, and streams that begin with garbage."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from flows.backfill import backfill
from flows.drain import drain
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tests.support.oracle import flat_rows, ledger_sums, table_rows
from tests.support.stream_entries import SENSOR_READINGS, event

pytestmark = pytest.mark.usefixtures("prefect_server")


def streams(database: psycopg.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM spillway.streams ORDER BY name").fetchall()]


def test_a_stream_of_unknown_fields_is_refused_before_writing_and_the_others_of_the_pattern_are_drained(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    send(redis_client, "odd:b", SENSOR_READINGS)
    good = [event(n) for n in range(10)]
    send(redis_client, "odd:a", good[:5])
    send(redis_client, "odd:c", good[5:])
    with pytest.raises(Terminal, match=r"odd:b: .*'ts', 'sensorId', 'kind', 'celsius'; nothing was written") as refused:
        drain("odd:*")
    with pytest.raises(Terminal, match="nothing was written"):
        backfill(stream="odd:b")
    assert streams(database) == ["odd:a", "odd:c"]
    assert table_rows(database) == flat_rows(good)
    assert database.execute("SELECT count(*) FROM spillway.quarantine").fetchone() == (0,)
    line = "streams." + str(refused.value).rpartition(" streams.")[2]
    assert tomllib.loads(line)["streams"].keys() == {"odd:b"}
    path = tmp_path / "spillway.toml"
    path.write_text(line)
    configure(mappings=path, max_age_days=3_650)
    result = drain("odd:b")
    assert (result["inserted"], result["quarantined"]) == (1_200, 0)


def test_a_stream_that_begins_with_a_thousand_unreadable_entries_is_drained(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "spillway.toml"
    path.write_text(
        '[streams."late:mapped"]\nlayout = "json"\ntime = "at"\nevent_id = "id"\nevent_type = "kind"\n'
        'user_id = { key = "who", default = "nobody" }\n'
    )
    configure(mappings=path, max_bad_share=1.0)
    document = b'{"at": "2026-11-20T00:00:00Z", "id": "0123abcd-4567-89ab-cdef-0123456789ab", "kind": "k"}'
    send(redis_client, "late:mapped", [{b"data": b"{not json"}] * 1_010 + [{b"data": document}])
    send(redis_client, "late:unknown", [{b"junk": b"x"}] * 1_010 + [event(1)])
    drain("late:*")
    assert ledger_sums(database, "late:mapped") == (1_011, 1, 0, 1_010)
    assert ledger_sums(database, "late:unknown") == (1_011, 1, 0, 1_010)


def test_a_default_for_every_entry_is_a_warning_of_the_first_drain(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    path = tmp_path / "spillway.toml"
    path.write_text(
        '[streams."plain"]\nlayout = "flat"\ntime = "time"\nevent_id = "event_id"\nevent_type = "event_type"\n'
        'user_id = { key = "userid", default = "nobody" }\nproperties = "properties"\n'
    )
    configure(mappings=path)
    send(redis_client, "plain", [event(n) for n in range(5)])
    (warning,) = drain("plain")["warnings"]
    assert "user_id is its default 'nobody' in all of the first 5 entries, because none has 'userid'" in warning
    assert drain("plain")["warnings"] == []
