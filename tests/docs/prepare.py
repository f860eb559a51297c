"""What a reader has at hand before the first command of a page, besides servers and an empty table."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import redis

from infra.settings import PROJECT_ROOT
from tests.support.programs import BIN

_DOCUMENTS = [
    {
        "id": f"c0ffee00-0000-4000-8000-{n:012}",
        "occurred_at": f"2020-09-{1 + n % 2:02}T10:00:{n:02}Z",
        "source_id": "wikipedia",
        "relation_type_id": "references",
        "subj_id": f"https://en.wikipedia.org/wiki/{n}",
    }
    for n in range(3)
]


def project(folder: Path) -> None:
    """The folder of a clone: the environment, the mappings, and a file of events."""
    (folder / ".venv").symlink_to(BIN.parent)
    (folder / "spillway.toml").write_text((PROJECT_ROOT / "spillway.toml").read_text())
    lines = "".join(json.dumps(document) + "\n" for document in _DOCUMENTS)
    (folder / "history").mkdir()
    with gzip.open(folder / "history" / "events.ndjson.gz", "wt") as file:
        file.write(lines)
    (folder / "events.ndjson").write_text(lines)


def events_web(client: redis.Redis) -> None:
    """A stream with three good events and two bad ones."""
    for n in range(5):
        when = "half past nine" if n > 2 else f"2026-11-{20 + n}T10:00:00Z"
        event = {"event_id": f"5f0c0000-0000-4000-8000-{n:012}", "event_type": "page.view", "user_id": "anna"}
        client.xadd("events-web", {**event, "time": when, "properties": '{"page":"/"}'}, id=f"{1795725777600 + n}-0")


# Pages that begin with an empty Redis: they fill it themselves.
EMPTY = {"README.md", "docs/how-to/your-own-events.md", "docs/how-to/retention.md"}
# What a reader has typed before, and the page does not show. Half a minute of events, so that they lie in one chunk.
TYPED_BEFORE = {
    "docs/how-to/monitoring.md": ("spillway drain --stream events-web",),
    "docs/how-to/retention.md": (
        "spillway generate --events 10000 --stream events-web --span 0.01",
        "spillway drain --stream events-web",
    ),
    "docs/how-to/backfill.md": (
        "spillway generate --events 100 --stream events-old --span 0.01 --start 2024-01-04T12:00:00Z",
        "spillway drain --stream events-old",
        "SPILLWAY_ARCHIVE_URL=$PWD/archive SPILLWAY_RETENTION=archive SPILLWAY_KEEP=90d spillway maintain",
    ),
}


def streams(page: str) -> Callable[[redis.Redis], None]:
    """What fills Redis before the first command of a page."""
    return (lambda client: None) if page in EMPTY else events_web
