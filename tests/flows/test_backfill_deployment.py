"""`backfill/ad-hoc` on a real Prefect server and worker: each kind of source, its artifacts, a cancellation."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from infra.display import markdown
from infra.producers.send import send
from infra.settings import Settings
from tests.support.backfill_sources import as_document, csv_text, flat_columns, ndjson, parquet, written
from tests.support.old_events import old_events
from tests.support.oracle import flat_rows, table_digest, table_rows
from tests.support.prefect_server import run_prefect
from tests.support.programs import BIN
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")

ENTRIES = [event(n) for n in range(400)]
FORMS: dict[str, Callable[[], bytes]] = {
    "x.ndjson": lambda: ndjson(map(as_document, ENTRIES[:100])),
    "x.csv": lambda: csv_text(map(flat_columns, ENTRIES[100:200])),
    "x.parquet": lambda: parquet(map(flat_columns, ENTRIES[200:300])),
}


def run(env: dict[str, str], *parameters: str) -> str:
    """Run the deployment with `name=value` parameters to its end."""
    given = [argument for parameter in parameters for argument in ("--param", parameter)]
    return run_prefect(env, "deployment", "run", "backfill/ad-hoc", *given, "--watch")


def artifact(key: str) -> Any:
    found = Artifact.get(key)
    assert found is not None
    return found


def test_files_of_every_kind_and_a_stream(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, tmp_path: Path
) -> None:
    paths = [written(tmp_path, name, data()) for name, data in FORMS.items()]
    run(env, f"source={json.dumps(paths)}")
    rows = [
        (row["source"], row["state"], row["inserted"], row["duplicates"])
        for row in json.loads(str(artifact("backfill").data))
    ]
    assert sorted(rows) == sorted((markdown(path), "new", 100, 0) for path in paths)
    send(redis_client, stream, ENTRIES[250:])
    run(env, f"stream={stream}")
    (row,) = json.loads(str(artifact("backfill").data))
    assert (row["source"], row["inserted"], row["duplicates"]) == (stream, 100, 50)
    assert table_rows(database) == flat_rows(ENTRIES)
    run(env, f"source={json.dumps(paths)}")
    assert {row["state"] for row in json.loads(str(artifact("backfill").data))} == {"known"}
    assert reconcile("*", deep=True)["balanced"]


def test_the_archive(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str,
    configure: Callable[..., Settings], tmp_path: Path,
) -> None:  # fmt: skip
    """The worker has no archive location in its settings: the files are named, as an operator elsewhere would."""
    send(redis_client, stream, old_events())
    drain(stream)
    digest = table_digest(database)
    configure(keep="30d", retention="archive", archive_url=tmp_path)
    assert maintain()["dropped"]
    assert table_digest(database) != digest
    run(env, f"source={tmp_path}")
    assert table_digest(database) == digest


def run_in(said: str) -> UUID:
    """The id of the flow run that `prefect deployment run` names."""
    return next(UUID(word) for word in said.split() if len(word) == 36 and word.count("-") == 4)


def test_a_run_that_fails_fails_the_command_and_says_why(
    env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    command = [BIN / "prefect", "deployment", "run", "backfill/ad-hoc", "--param", f"source={tmp_path}/none", "--watch"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run_in(done.stdout)).state
    assert state is not None
    assert f"{tmp_path}/none: expected" in str(state.message)
    assert table_rows(database) == {}


def test_a_run_cancelled_from_prefect_shows_its_progress_and_the_next_one_continues(
    env: dict[str, str], database: psycopg.Connection, tmp_path: Path
) -> None:
    entries = [event(n) for n in range(3_000)]
    path = written(tmp_path, "x.csv", csv_text(map(flat_columns, entries)))
    parameters = ["--param", f"source={path}", "--param", "rate=5"]  # ten minutes
    out = run_prefect(env, "deployment", "run", "backfill/ad-hoc", *parameters)
    run_id = run_in(out)

    def state() -> str:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(run_id).state
        assert found is not None
        return str(found.type.value)

    wait_until(lambda: len(table_rows(database)) >= 50, shown=state, every=0.5)
    wait_until(
        lambda: (
            (progress := Artifact.get("backfill-progress")) is not None
            and progress.flow_run_id == run_id
            and float(str(progress.data)) > 0
        ),
        shown=state,
        every=0.5,
    )
    progress = artifact("backfill-progress")
    assert 0 < float(str(progress.data)) < 100
    assert "of 3,000 rows" in str(progress.description)
    run_prefect(env, "flow-run", "cancel", str(run_id))
    wait_until(lambda: state() == "CANCELLED", shown=state, every=0.5)
    part = table_rows(database)
    assert 50 <= len(part) < 3_000
    assert part.items() <= flat_rows(entries).items()
    time.sleep(2)  # no worker continues it
    assert table_rows(database) == part
    result = backfill(path)
    assert (result["sources"][0]["state"], result["inserted"]) == ("in part", 3_000 - len(part))
    assert table_rows(database) == flat_rows(entries)
    assert reconcile("*", deep=True)["balanced"]
