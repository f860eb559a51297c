"""`spillway report` on real events: the frames are what the table and the stream have, and the page is readable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort

from flows.drain import drain
from flows.reconcile import reconcile
from infra.producers.send import send
from infra.settings import Settings
from tests.support.browser import CHROMIUM, measured
from tests.support.command_line import RunSpillway
from tests.support.oracle import crossref_rows, table_rows
from tests.support.prefect_server import run_prefect
from tests.support.runs import drain_with_loss
from tests.support.servers import Servers
from tests.support.stream_entries import add_entries, event

# Of an empty database. By default chunks are compressed, which the Apache edition cannot do.
FINE = {"Community": "Nothing needs attention.", "Apache": "needs the Community edition"}
HOSTILE = "web<script>attacked=1</script><img src=x onerror=attacked=1>$x"


def frame(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{name}.parquet")


def test_the_frames_of_real_events_are_those_of_the_table(
    sample: Path, redis_client: redis.Redis, database: psycopg.Connection, spillway: RunSpillway, tmp_path: Path
) -> None:
    lines = sample.read_bytes().splitlines()
    send(redis_client, "crossref", ({b"data": line} for line in lines))
    add_entries(redis_client, "web", 0, 10)
    drain(["crossref", "web"])
    send(redis_client, "web", [event(10, time="soon"), event(0, user_id="another"), *[event(n) for n in range(11, 20)]])
    drain("web")
    send(redis_client, "web", [event(n) for n in range(20, 30)])
    redis_client.xtrim("web", maxlen=4, approximate=False)
    drain_with_loss("web")
    code, _, err = spillway("report", "--since", "6h", "--data", str(tmp_path))
    assert code == 0, err
    expected = crossref_rows(lines)
    found = frame(tmp_path, "outcomes").set_index("stream")
    assert dict(found.loc["crossref", ["read", "inserted", "duplicates"]]) == {
        "read": len(lines), "inserted": len(expected), "duplicates": len(lines) - len(expected),
    }  # fmt: skip
    of_web = dict(found.loc["web", ["read", "inserted", "conflicts", "refused", "lost", "waiting"]])
    assert of_web == {"read": 25, "inserted": 23, "conflicts": 1, "refused": 1, "lost": 6, "waiting": 2}
    assert set(found["table"]) == {"public.events"}
    loads = frame(tmp_path, "loads")
    assert loads.groupby("stream")["read"].sum().to_dict() == {"crossref": len(lines), "web": 25}
    assert loads["inserted"].sum() == len(table_rows(database))
    assert frame(tmp_path, "chunks")["rows"].sum() == len(table_rows(database)), "those of a small table are counted"
    reasons = frame(tmp_path, "reasons").set_index("kind")
    assert reasons.loc["refused", "reason"].startswith("expected ISO 8601")
    assert frame(tmp_path, "quarantined")["entries"].sum() == 2
    runs = frame(tmp_path, "runs")
    assert len(runs) >= 3
    assert {"drain"} <= set(runs["flow"])
    assert (runs["seconds"] >= 0).all()


def test_loads_that_the_ledger_has_merged_are_shown_by_the_hour(
    redis_client: redis.Redis, database: psycopg.Connection, spillway: RunSpillway, configure: Callable[..., Settings],
    tmp_path: Path,
) -> None:  # fmt: skip
    configure(batch_rows=1)
    add_entries(redis_client, "web", 0, 120)
    drain("web")
    database.execute("UPDATE spillway.ledger SET loaded_at = date_trunc('hour', now()) - INTERVAL '50 hours'")
    database.execute("UPDATE spillway.streams SET settled_at = settled_at - INTERVAL '2 days'")
    add_entries(redis_client, "web", 120, 130)
    drain("web")
    assert database.execute("SELECT max(ranges) FROM spillway.ledger").fetchone() == (120,)
    assert spillway("report", "--since", "7d", "--data", str(tmp_path))[0] == 0
    found = frame(tmp_path, "loads")
    assert list(found["read"]) == [120, 10]
    assert 49 <= (found["at"][1] - found["at"][0]).total_seconds() / 3600 <= 52


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_page_fits_on_a_phone_a_tablet_and_a_desktop_and_runs_nothing_of_a_producer(
    sample: Path, redis_client: redis.Redis, database: psycopg.Connection, spillway: RunSpillway, tmp_path: Path
) -> None:
    send(redis_client, "crossref", ({b"data": line} for line in sample.read_bytes().splitlines()))
    send(redis_client, HOSTILE, [event(1), event(2, time=HOSTILE), event(3, event_type=HOSTILE)])
    drain(["crossref", HOSTILE.replace("[", "\\[")])
    path = tmp_path / "of the day" / "report.html"
    code, out, err = spillway("report", "--since", "1d", "--output", str(path))
    assert (code, err) == (0, "")
    assert f"written: {path}" in out
    html = path.read_text()
    assert "1 entry waits in quarantine" in html
    assert path.stat().st_size < 3_000_000
    for width in (390, 768, 1400):
        content, window, pictures, attacked = measured(html, width)
        assert content <= window, f"at {width} the page scrolls sideways"
        assert pictures >= 5
        assert not attacked


def test_a_report_without_a_drain_and_without_a_server_of_prefect_is_a_page(
    database: psycopg.Connection, command_line: RunSpillway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    servers: Servers,
) -> None:  # fmt: skip
    monkeypatch.delenv("PREFECT_API_URL")
    path = tmp_path / "empty.html"
    code, _, err = command_line("report", "--output", str(path))
    assert (code, err) == (0, "")
    assert FINE[servers.edition] in path.read_text()


def test_the_page_is_written_next_to_the_frames_if_it_is_asked_for(
    database: psycopg.Connection, spillway: RunSpillway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert spillway("report", "--data", "frames")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"frames"}
    code, out, _ = spillway("report", "--data", "frames", "--output", "page.html")
    assert code == 0
    assert "written: frames/loads.parquet" in out
    assert "written: page.html" in out
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "report: --since: expected"),
        (["--since", ""], "expected a positive duration such as 7d, found none; nothing was written"),
        (["--table", "nothing"], "expected a table that is loaded or maintained, found 'nothing'"),
        (["--output", "/proc/report.html"], "name another place with --output or --data"),
    ],
)
def test_what_cannot_be_reported_is_refused(
    database: psycopg.Connection, spillway: RunSpillway, arguments: list[str], message: str
) -> None:
    code, _, err = spillway("report", *arguments)
    assert code != 0
    assert message in err


def test_the_daily_reconcile_publishes_the_pictures_and_a_run_by_hand_does_not(
    redis_client: redis.Redis, database: psycopg.Connection, worker: str, env: dict[str, str], servers: Servers
) -> None:
    add_entries(redis_client, "events-web", 0, 10)
    drain("events-web")
    run_prefect(env, "deployment", "run", "reconcile/daily", "--watch")
    found = _published()
    text = str(found[0].data)
    assert FINE[servers.edition] in text
    assert "## Events per second" in text
    assert "data:image/svg+xml;base64," in text
    reconcile("events-web")
    assert [one.id for one in _published()] == [one.id for one in found]


def _published() -> list[Artifact]:
    """The artifacts `report`, the newest first. Other tests have left many of other keys."""
    mine = ArtifactFilter(key=ArtifactFilterKey(any_=["report"]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=mine, sort=ArtifactSort.CREATED_DESC)
