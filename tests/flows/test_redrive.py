"""The quarantine as an operator uses it: list, fix the mapping or edit, replay exactly once, discard."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from flows.drain import drain
from flows.plain import redrive as plain_redrive
from flows.redrive import redrive
from infra.errors.exceptions import Terminal
from infra.producers.send import send
from infra.settings import Settings
from tasks.table import redrive as replaying
from tests.support.command_line import RunSpillway
from tests.support.oracle import flat_rows, ledger_sums, table_rows
from tests.support.results import redrive_counts
from tests.support.runs import failed_redrive
from tests.support.stream_entries import event
from tests.support.tables import redrive_outcomes

pytestmark = pytest.mark.usefixtures("prefect_server")

Configure = Callable[..., Settings]


BAD = [event(n, user_id="") for n in range(10, 15)]
GOOD = [event(n) for n in range(5)]


def test_after_the_mapping_is_fixed_every_entry_is_replayed_once(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, configure: Configure, tmp_path: Path
) -> None:
    send(redis_client, stream, [*GOOD, *BAD])
    drain(stream)
    assert failed_redrive(stream) == (5, 0, 0, 5)  # nothing was fixed yet
    assert redrive_outcomes(database) == {"waits": 5}
    mapping = tmp_path / "spillway.toml"
    mapping.write_text(f"""
        [streams.{stream}]
        layout = "flat"
        time = "time"
        event_id = "event_id"
        event_type = "event_type"
        user_id = {{ key = "user_id", default = "nobody" }}
        properties = "properties"
        """)
    configure(mappings=mapping)
    assert redrive_counts(redrive(stream)) == (5, 5, 0, 0)
    assert redrive_counts(redrive(stream)) == (0, 0, 0, 0)
    edited = [entry | {b"user_id": b"nobody"} for entry in BAD]
    assert table_rows(database) == flat_rows([*GOOD, *edited])
    assert redrive_outcomes(database) == {"redriven": 5}
    assert ledger_sums(database, stream) == (10, 5, 0, 5)  # what the drain did stays what it did


def test_an_edited_field_is_replayed_and_stays_on_record_with_the_original(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [*GOOD, *BAD])
    drain(stream)
    (entry_id,) = database.execute("SELECT min(entry_id) FROM spillway.quarantine").fetchone() or ("",)
    code, out, _ = spillway("quarantine", "redrive", "--stream", stream, entry_id, "--set", "user_id=anna", "--json")
    assert (code, json.loads(out)) == (0, {"tried": 1, "inserted": 1, "duplicates": 0, "still_bad": 0})
    anna = BAD[0] | {b"user_id": b"anna"}
    assert table_rows(database) == flat_rows([*GOOD, anna])
    code, out, _ = spillway("quarantine", "show", entry_id)
    shown = json.loads(out)
    assert (code, shown["outcome"]) == (0, "redriven")
    assert dict(shown["fields"]) == {name.decode(): value.decode() for name, value in BAD[0].items()}
    assert dict(shown["replayed"])["user_id"] == "anna"
    assert redrive_outcomes(database) == {"redriven": 1, "waits": 4}


def test_a_conflict_stays_one_until_it_is_edited_or_discarded(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(1), event(1, user_id="a"), event(1, user_id="b")])
    drain(stream)
    assert failed_redrive(stream, kind="conflict") == (2, 0, 0, 2)
    first, second = (row[0] for row in database.execute("SELECT entry_id FROM spillway.quarantine ORDER BY fields"))
    other_id = str(uuid.UUID(int=9))
    assert redrive_counts(redrive(stream, [first], set={"event_id": other_id})) == (1, 1, 0, 0)
    assert redrive_counts(redrive(stream, [second], set={"user_id": "user-1"})) == (1, 0, 1, 0)
    assert table_rows(database) == flat_rows([event(1), event(1, user_id="a", event_id=other_id)])
    assert redrive_outcomes(database) == {"redriven": 2}


def test_a_discarded_entry_stays_on_record_and_is_not_replayed(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [*GOOD, *BAD])
    drain(stream)
    code, out, err = spillway("quarantine", "discard", "--stream", stream)
    assert (code, out) == (2, "")
    assert "add --all" in err
    assert spillway("quarantine", "discard", "--stream", stream, "--all")[:2] == (0, "5 discarded\n")
    assert redrive_counts(redrive(stream, set={"user_id": "x"})) == (0, 0, 0, 0)
    assert redrive_outcomes(database) == {"discarded": 5}
    (by,) = database.execute("SELECT DISTINCT resolved_by FROM spillway.quarantine").fetchone() or ("",)
    assert by
    assert table_rows(database) == flat_rows(GOOD)


def test_the_list_shows_what_waits_and_why(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [*GOOD, *BAD, event(20, time="[red]never")])
    drain(stream)
    code, out, _ = spillway("quarantine", "list", "--stream", stream)
    assert code == 0
    assert "missing field user_id" in out
    assert "'[red]never'" in out
    assert "6 waiting" in out
    code, out, _ = spillway("quarantine", "list", "--field", "time", "--json")
    (line,) = out.splitlines()
    assert json.loads(line)["kind"] == "refused"
    assert spillway("quarantine", "list", "--stream", "other")[1] == "0 waiting\n"


def test_the_list_has_one_line_per_reason_and_the_command_to_type_next(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    no_id = [event(n, event_id=f"no-uuid-{n}") for n in range(20, 23)]  # the reason quotes each value
    no_json = [event(n, properties=f"{n}{{") for n in range(30, 32)]  # the server quotes each value
    send(redis_client, stream, [*GOOD, *BAD, *no_id, *no_json])
    with pytest.raises(Terminal, match="10 of 15 entries went to quarantine"):
        drain(stream)
    code, out, _ = spillway("quarantine", "list", "--stream", stream)
    assert code == 0
    lines = [line.split() for line in out.splitlines() if line.strip().startswith(stream)]
    assert [(line[1], line[3]) for line in lines] == [("5", "user_id"), ("3", "event_id"), ("2", "properties")]
    assert f"spillway quarantine redrive --stream {stream} --kind refused --field user_id" in out
    (example,) = (line.split()[-1] for line in out.splitlines() if line.startswith("next: "))
    fields = dict(json.loads(spillway("quarantine", "show", example)[1])["fields"])
    assert {name.encode(): value.encode() for name, value in fields.items()} in BAD
    code, out, _ = spillway("quarantine", "list", "--limit", "1")
    assert "10 waiting, 1 of 3 reasons listed" in out
    assert spillway("quarantine", "discard", "--stream", stream, "--field", "user_id", "--all")[0] == 0
    assert "5 waiting" in spillway("quarantine", "list")[1]
    assert "10 in all" in spillway("quarantine", "list", "--all")[1]


@pytest.mark.parametrize("redrives", [4])
def test_concurrent_redrives_replay_every_entry_once(
    redrives: int, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    bad = [event(n, user_id="") for n in range(100, 3_100)]
    send(redis_client, stream, [*GOOD, *bad, *bad[:500]])
    with pytest.raises(Terminal, match="3500 of 3505 entries went to quarantine"):
        drain(stream)
    results: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: results.append(redrive(stream, set={"user_id": "late"})))
        for _ in range(redrives)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sum(result[name] for result in results) for name in ("tried", "inserted", "duplicates", "still_bad")] == [
        3_500, 3_000, 500, 0,
    ]  # fmt: skip
    assert table_rows(database) == flat_rows([*GOOD, *(entry | {b"user_id": b"late"} for entry in bad)])
    assert redrive_outcomes(database) == {"redriven": 3_500}


@pytest.mark.parametrize("parallel", [1, 3])
def test_batches_at_the_same_time_replay_every_entry_once_also_after_an_error(
    parallel: int,
    redis_client: redis.Redis,
    database: psycopg.Connection,
    stream: str,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third batch fails once. What was replayed before stays, and the next redrive does the others."""
    bad = [event(n, user_id="") for n in range(100, 900)]
    send(redis_client, stream, [*GOOD, *bad, *bad[:300]])  # equal entries, which are in different batches
    with pytest.raises(Terminal, match="1100 of 1105 entries went to quarantine"):
        drain(stream)
    configure(parallel_loads=parallel)
    monkeypatch.setattr(replaying, "_MAX_ENTRIES", 100)
    calls = itertools.count(1)

    def fail_once(*arguments: Any, **options: Any) -> replaying.RedriveResult:
        if next(calls) == 3:
            raise Terminal("the third batch fails")
        return replaying.replay_entries(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(plain_redrive, "replay_entries", fail_once)
        with pytest.raises(Terminal, match="the third batch fails"):
            redrive(stream, set={"user_id": "late"})
    done = redrive_outcomes(database)["redriven"]
    assert done % 100 == 0
    assert 200 <= done < 1_100
    assert redrive_counts(redrive(stream, set={"user_id": "late"}))[0] == 1_100 - done
    assert redrive_outcomes(database) == {"redriven": 1_100}
    assert table_rows(database) == flat_rows([*GOOD, *(entry | {b"user_id": b"late"} for entry in bad)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["redrive", "1-1"], "name one"),
        (["redrive", "--set", "user_id"], "expected FIELD=VALUE or FIELD=@FILE, found 'user_id'"),
        (["redrive", "--set", "data=@no-such-file"], "no-such-file cannot be read"),
        (["show", "1-1"], "expected one entry 1-1, found 0; spillway quarantine list --all"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], message: str, spillway: RunSpillway, database: psycopg.Connection
) -> None:
    code, out, err = spillway("quarantine", *arguments)
    assert (code, out) == (1 if arguments[0] == "show" else 2, "")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("bad", "share", "fails"), [(9, 0.5, False), (10, 0.5, False), (11, 0.5, True), (11, 1, False)]
)
def test_a_drain_with_too_many_bad_entries_in_a_range_fails_after_it_has_kept_them_all(
    bad: int, share: float, fails: bool, redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Configure,
) -> None:  # fmt: skip
    configure(max_bad_share=share)
    good = [event(n) for n in range(10)]
    send(redis_client, stream, [*good, *(event(100 + n, user_id="") for n in range(bad))])
    if fails:
        with pytest.raises(
            Terminal,
            match=f"{bad} of {10 + bad} entries went to quarantine, .*: {bad} × user_id: missing field user_id; all",
        ):
            drain(stream)
    else:
        drain(stream)
    assert table_rows(database) == flat_rows(good)
    assert redrive_outcomes(database) == {"waits": bad}
    assert drain(stream)["read"] == 0
