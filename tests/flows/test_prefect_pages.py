"""Prefect's pages in a real browser: no name, field or value of a producer's becomes markup, a link or a script."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import psycopg
import pytest
import redis
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from infra.errors.exceptions import SpillwayError
from infra.settings import Settings
from tests.support.browser import CHROMIUM, document
from tests.support.stream_entries import event

pytestmark = [
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"),
]

# Each sets an attribute of the page if it becomes markup, and the last two if somebody clicks on it.
_SET = "document.documentElement.setAttribute('data-attacked','1')"
ATTACKS = [
    f'<img src=x onerror="{_SET}">',
    f"<script>{_SET}</script>",
    f'"><svg onload="{_SET}">',
    f"![x](x){{onerror={_SET}}}<iframe srcdoc='<script>parent.{_SET}</script>'>",
    f"[click](javascript:{_SET})",
    f'<a href="javascript:{_SET}">click</a>|`x`\n\n# h',
]


class _Harm(HTMLParser):
    """What a page's elements do that a producer could want: handlers, scripts in links and foreign frames."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        harmful = (
            "data-attacked" in values
            or tag == "iframe"
            or any(name.startswith("on") for name in values)
            or any(value.lower().lstrip().startswith("javascript:") for value in values.values())
            or (tag == "img" and values.get("src") == "x")
        )
        self.found += [self.get_starttag_text() or tag] if harmful else []

    def handle_data(self, data: str) -> None:
        self.found += [data] if self.cdata_elem == "script" and _SET in data else []


def test_no_page_of_a_run_or_an_artifact_obeys_a_producer(
    redis_client: redis.Redis, database: psycopg.Connection, configure: Callable[..., Settings], tmp_path: Path
) -> None:
    configure(max_bad_share=1.0, retries=0)
    for number, attack in enumerate(ATTACKS):
        name = f"events-{number} {attack}"
        redis_client.xadd(name, event(2 * number, event_type=attack))  # type: ignore[arg-type]
        broken = event(2 * number + 1, time=attack) | {attack.encode(): attack.encode()}
        redis_client.xadd(name, broken)  # type: ignore[arg-type]
    (tmp_path / f"{'<img src=x onerror=alert(1)>'}.ndjson").write_text('{"event_id": "<script>"}\n')
    before = _artifacts()
    with suppress(SpillwayError):
        drain("events-*")
    for flow in (
        lambda: reconcile("events-*", deep=True),
        maintain,
        redrive,
        lambda: backfill(str(tmp_path / "*.ndjson")),
    ):
        with suppress(SpillwayError):
            flow()  # type: ignore[operator]
    assert database.execute("SELECT count(*) FROM spillway.quarantine").fetchone() == (len(ATTACKS),)
    pages = {key: f"artifacts/artifact/{one}" for one, key in _artifacts().items() if one not in before}
    assert {"drain", "reconcile", "redrive"} <= set(pages), pages
    with get_client(sync_client=True) as client:
        pages |= {
            f"run {run.name}": f"runs/flow-run/{run.id}"
            for run in client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=5)
        }
        url = str(client.api_url).removesuffix("/").removesuffix("/api")
    for page, path in pages.items():
        shown = document(f"{url}/{path}")
        assert _Harm(shown).found == [], page
        if page in ("drain", "reconcile", "redrive"):
            assert "events-0 &lt;img" in shown, shown[-3000:]  # the page was drawn


def test_the_browser_would_notice(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{'<p>'.join(ATTACKS)}</body></html>")
    found = _Harm(document((tmp_path / "page.html").as_uri())).found
    assert len(found) >= len(ATTACKS) - 1, found
    assert "data-attacked" in found[0]


def _artifacts() -> dict[str, str]:
    """The keys of the newest artifacts, by id. Other tests have left many."""
    with get_client(sync_client=True) as client:
        newest = client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=50)
        return {str(one.id): str(one.key) for one in newest}
