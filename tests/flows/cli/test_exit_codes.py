"""Exit codes that a cron job can alert on, and the state of the Prefect run: a loss never passes for a success."""

from __future__ import annotations

import getpass
import json
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis

from flows.drain import drain
from infra.errors.exit_codes import ExitCode, exit_code_lines
from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support.command_line import RunSpillway
from tests.support.flow_runs import failed_with, last_run
from tests.support.old_releases import record_as_lost
from tests.support.oracle import flat_rows, ledger_is_whole, table_rows
from tests.support.programs import BIN
from tests.support.stream_entries import add_entries, event

pytestmark = pytest.mark.usefixtures("prefect_server")


def lose(client: redis.Redis, stream: str, first: int = 10) -> None:
    """Add ten entries; six are deleted before they are drained."""
    add_entries(client, stream, first, first + 10)
    client.xtrim(stream, maxlen=4, approximate=False)


def test_a_drain_that_records_a_loss_drains_the_rest_prints_its_totals_and_exits_with_3(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    for name in ("a:lossy", "b:whole"):
        add_entries(redis_client, name, 0, 10)
    drain("?:*")
    lose(redis_client, "a:lossy")
    add_entries(redis_client, "b:whole", 20, 30)
    code, out, err = spillway("drain", "--stream", "?:*", "--json")
    assert code == 3
    totals = json.loads(out)
    assert [totals[name] for name in ("read", "inserted", "lost", "lag")] == [14, 14, 6, 0]
    (error,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "6 entries of a:lossy with ids in" in error
    assert table_rows(database) == flat_rows(event(n) for n in (*range(10), *range(16, 20), *range(20, 30)))
    assert ledger_is_whole(database, "a:lossy")
    assert ledger_is_whole(database, "b:whole")
    assert failed_with(last_run(), "6 entries of a:lossy with ids in")
    assert spillway("drain", "--stream", "?:*")[0] == 0
    lose(redis_client, "a:lossy", 30)
    code, out, _ = spillway("drain", "--stream", "?:*")
    assert code == 3
    assert "a:lossy" in out
    assert "b:whole" in out


def test_prefect_does_not_retry_a_drain_that_has_recorded_a_loss(
    redis_client: redis.Redis, database: psycopg.Connection, stream: str, env: dict[str, str]
) -> None:
    """A second run would find no loss and be Completed."""
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    lose(redis_client, stream)
    environment = env | {"PREFECT_FLOWS_DEFAULT_RETRIES": "2", "PREFECT_FLOWS_DEFAULT_RETRY_DELAY_SECONDS": "0"}
    command = [BIN / "spillway", "drain", "--stream", stream]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 3, done.stderr
    run = last_run()
    assert failed_with(run, f"6 entries of {stream} with ids in")
    assert run.run_count == 1


def test_reconcile_exits_with_3_until_the_loss_is_accepted_and_shows_it_from_then_on(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    assert spillway("reconcile", "--stream", stream)[0] == 0
    lose(redis_client, stream)
    assert spillway("drain", "--stream", stream)[0] == 3
    for _ in range(2):
        code, out, err = spillway("reconcile", "--stream", stream)
        assert code == 3
        assert "everything balances" not in out
        assert f"6 entries of {stream} are lost" in err
        assert f"spillway stream accept-loss {stream}" in err
        assert failed_with(last_run(), f"6 entries of {stream} are lost")
    before = database.execute("SELECT clock_timestamp()").fetchone()
    code, out, _ = spillway("stream", "accept-loss", stream)
    assert (code, out) == (0, f"6 lost entries of {stream} are now accepted, 6 in all\n")
    accepted = database.execute("SELECT lost, accepted, accepted_by, accepted_at > %s FROM spillway.streams", before)
    lost, number, by, is_new = accepted.fetchone() or (0, 0, "", None)
    assert (lost, number, by, is_new) == (6, 6, getpass.getuser(), True)
    code, out, _ = spillway("reconcile", "--stream", stream)
    assert code == 0
    assert f"6 lost entries of {stream} were accepted by {by} at 20" in out
    assert "everything balances" in out
    lose(redis_client, stream, 20)
    assert spillway("drain", "--stream", stream)[0] == 3
    code, out, err = spillway("reconcile", "--stream", stream, "--json")
    assert code == 3
    (totals,) = json.loads(out)["streams"]
    assert (totals["lost"], totals["accepted"]) == (12, 6)
    assert f"6 entries of {stream} are lost" in err
    assert spillway("stream", "accept-loss", stream)[1] == f"6 lost entries of {stream} are now accepted, 12 in all\n"
    assert spillway("stream", "accept-loss", stream)[:2] == (
        0,
        f"0 lost entries of {stream} are now accepted, 12 in all\n",
    )
    assert spillway("reconcile", "--stream", stream)[0] == 0
    code, _, err = spillway("stream", "accept-loss", "nobody-knows")
    assert code == 1
    assert "the ledger has no stream 'nobody-knows'" in err


def test_an_accepted_loss_that_is_recovered_is_no_longer_accepted(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    """Otherwise it would hide the next loss."""
    add_entries(redis_client, stream, 0, 20)
    record_as_lost(database, redis_client, stream, 10, 20, "the same row")
    assert spillway("stream", "accept-loss", stream)[0] == 0
    assert "10 entries will be drained" in spillway("stream", "recover", stream)[1]
    assert database.execute("SELECT lost, accepted FROM spillway.streams").fetchone() == (0, 0)
    assert spillway("drain", "--stream", stream)[0] == 0
    assert table_rows(database) == flat_rows(event(n) for n in range(20))


def test_a_redrive_in_which_nothing_succeeds_exits_with_4(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    send(redis_client, stream, [event(1), event(2), event(3), event(4, user_id=""), event(5, user_id="")])
    drain(stream)
    code, out, err = spillway("quarantine", "redrive", "--stream", stream, "--json")
    assert (code, json.loads(out)) == (4, {"tried": 2, "inserted": 0, "duplicates": 0, "still_bad": 2})
    assert "expected entries to succeed, found none of 2;" in err
    assert failed_with(last_run(), "expected entries to succeed, found none of 2;")
    (entry, _) = (row[0] for row in database.execute("SELECT entry_id FROM spillway.quarantine ORDER BY entry_id"))
    assert spillway("quarantine", "redrive", "--stream", stream, entry, "--set", "user_id=anna")[0] == 0
    assert table_rows(database) == flat_rows([event(1), event(2), event(3), event(4, user_id="anna")])
    assert spillway("quarantine", "discard", "--stream", stream, "--all")[0] == 0
    assert spillway("quarantine", "redrive", "--stream", stream)[0] == 0  # nothing waits


def test_a_failure_is_1_and_a_wrong_use_or_setting_is_2(
    spillway: RunSpillway, redis_client: redis.Redis, database: psycopg.Connection, stream: str, env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    send(redis_client, stream, [event(1)])
    assert spillway("drain", "--stream", "nobody-produces")[0] == 1
    assert spillway("drain", "--no-such-option")[0] == 2
    assert spillway("drain", "--stream", stream, "--until", "yesterday")[0] == 2
    monkeypatch.setenv("SPILLWAY_TRIM_KEEP", "a while")
    assert spillway("drain", "--stream", stream)[0] == 2
    monkeypatch.delenv("SPILLWAY_TRIM_KEEP")
    (tmp_path / "bad.toml").write_text("[streams")
    monkeypatch.setenv("SPILLWAY_MAPPINGS", str(tmp_path / "bad.toml"))
    assert spillway("drain", "--stream", stream)[0] == 2
    assert table_rows(database) == {}


def test_help_and_the_manual_name_every_code() -> None:
    done = subprocess.run([BIN / "spillway", "--help"], capture_output=True, text=True, check=True)
    said = " ".join(done.stdout.split())
    assert all(line in said for line in exit_code_lines())
    manual = (PROJECT_ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    assert all(f"| {code.value} | {code.meaning} |" in manual for code in ExitCode)
