"""Streams and a schedule for `spillway status` to show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import redis
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Scheduled

from flows.deployments import deploy, deployments
from infra.producers.send import send
from infra.settings import settings
from tests.support.stream_entries import event

STREAMS = [f"events-{name}" for name in ("web", "app", "billing", "devices")]


def drained(client: redis.Redis, names: list[str]) -> None:
    """Streams with ten events, and one entry in quarantine."""
    from flows.plain.drain import drain

    for at, name in enumerate(names):
        send(client, name, [event(10 * at + n) for n in range(10)])
    send(client, names[0], [{b"event_id": b"no uuid"}])
    drain(names)


@contextmanager
def on_schedule(client: SyncPrefectClient) -> Iterator[None]:
    """The deployments with their schedules, and a run of each that is due in 5 hours. Afterwards all is as before."""
    before = {one.id for one in client.read_deployments()}
    deploy(deployments(settings()), "spillway")
    found = [one for one in client.read_deployments() if one.schedules]
    due = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=5))
    planned = [client.create_flow_run_from_deployment(one.id, state=due).id for one in found]
    try:
        yield
    finally:
        for run in planned:
            client.delete_flow_run(run)
        for one in client.read_deployments():
            if one.id not in before:
                client.delete_deployment(one.id)
            for schedule in one.schedules if one.id in before else ():
                client.update_deployment_schedule(one.id, schedule.id, active=False)
