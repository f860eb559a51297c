"""`spillway automations` on a real Prefect server: a real loss and a real violation arrive as notifications."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest
import redis
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.events import Automation

from flows.drain import drain
from flows.maintain import maintain
from tests.support.command_line import assert_one_error
from tests.support.programs import BIN
from tests.support.runs import drain_with_loss
from tests.support.stream_entries import add_entries
from tests.support.waiting import wait_until

NAMES = ["spillway: entries lost", "spillway: maintain violation"]


@dataclass
class Receiver:
    """A webhook that keeps what it is sent."""

    block: str
    received: list[dict[str, str]] = field(default_factory=list)

    def wait_for(self, found: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        wait_until(lambda: any(map(found, self.received)), shown=lambda: self.received)
        return next(filter(found, self.received))


@pytest.fixture
def receiver(prefect_server: str) -> Iterator[Receiver]:
    """A notification block of the Prefect server, and the web server that it sends to."""
    name = f"ops-{uuid.uuid4().hex[:8]}"
    found = Receiver(f"{CustomWebhookNotificationBlock.get_block_type_slug()}/{name}")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        text = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name=name, url=url, json_data=text).save(name)
        yield found
        server.shutdown()
    with get_client(sync_client=True) as client:
        for one in automations():
            client.delete_automation(one.id)


def automations() -> list[Automation]:
    with get_client(sync_client=True) as client:
        return sorted((one for one in client.read_automations() if "spillway" in one.tags), key=lambda one: one.name)


def create(env: dict[str, str], block: str) -> subprocess.CompletedProcess[str]:
    command = [BIN / "spillway", "automations", "--notify", block]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_loss_and_a_violation_arrive_as_notifications(
    env: dict[str, str], redis_client: redis.Redis, database: psycopg.Connection, stream: str, receiver: Receiver
) -> None:
    done = create(env, receiver.block)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"created: {name}" for name in NAMES]
    add_entries(redis_client, stream, 0, 10)
    drain(stream)
    add_entries(redis_client, stream, 10, 20)
    redis_client.xtrim(stream, maxlen=4, approximate=False)
    drain_with_loss(stream)
    loss = receiver.wait_for(lambda one: "lost" in one["subject"])
    assert f"Spillway: 6 lost of the entries of {stream}" in loss["subject"]
    query = "SELECT lower(lost_ids)::text, upper(lost_ids)::text FROM spillway.ledger WHERE lost > 0"
    ((first, after_last),) = database.execute(query).fetchall()
    last = int(after_last) - 1
    ids = [f"{number >> 64}-{number & (1 << 64) - 1}" for number in (int(first), last)]
    assert re.findall(r"\d+-\d+", loss["body"]) == ids
    database.execute("DELETE FROM events WHERE ctid IN (SELECT ctid FROM events LIMIT 1)")
    (violation,) = maintain(fail=False)["violations"]
    notification = receiver.wait_for(lambda one: "violation" in one["subject"])
    assert notification["subject"].endswith("Spillway: maintain found a violation in events")
    assert violation in notification["body"]


def test_a_repetition_changes_the_automations_and_keeps_one_that_is_disabled(
    env: dict[str, str], receiver: Receiver
) -> None:
    assert create(env, receiver.block).returncode == 0
    before = automations()
    assert [one.name for one in before] == NAMES
    with get_client(sync_client=True) as client:
        client.pause_automation(before[0].id)
    done = create(env, receiver.block)
    assert done.stdout.splitlines() == [f"updated, disabled: {NAMES[0]}", f"updated: {NAMES[1]}"]
    after = automations()
    assert [(one.id, one.name, one.trigger, one.actions) for one in after] == [
        (one.id, one.name, one.trigger, one.actions) for one in before
    ]
    assert [one.enabled for one in after] == [False, True]


@pytest.mark.parametrize(
    ("block", "fault"), [("slack-webhook/nobody", "found no such block"), ("ops", "found no such")]
)
def test_a_block_that_does_not_exist_is_refused_and_nothing_is_changed(
    block: str, fault: str, prefect_server: str, env: dict[str, str]
) -> None:
    done = create(env, block)
    assert done.returncode == 2
    assert_one_error(done.stderr, fault, "nothing was changed")
    assert automations() == []


def test_a_block_that_sends_nothing_is_refused(prefect_server: str, env: dict[str, str]) -> None:
    name = f"secret-{uuid.uuid4().hex[:8]}"
    Secret(value="s3cret").save(name)
    done = create(env, f"secret/{name}")
    assert done.returncode == 2
    assert_one_error(done.stderr, "found one that cannot")
    assert "s3cret" not in done.stderr
    assert automations() == []


def test_without_a_prefect_server_it_is_refused(env: dict[str, str]) -> None:
    done = create(env | {"PREFECT_API_URL": ""}, "slack-webhook/ops")
    assert done.returncode == 2
    assert_one_error(done.stderr, "PREFECT_API_URL")
