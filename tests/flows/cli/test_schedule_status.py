"""What `spillway status` says, from a real ledger and from the runs of a real Prefect server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import redis
from prefect import get_client
from prefect.client.schemas.schedules import IntervalSchedule

from flows.cli.schedule_status import Run, deployment_statuses, judge, judge_results, scheduled_by_settings
from flows.cli.stream_status import stream_statuses
from flows.deployments import deployments
from infra.producers.send import send
from infra.settings import Settings
from tasks.metrics.ledger_figures import read_ledger_figures
from tests.support.stream_entries import event

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def run(state: str, seconds_ago: float, changed_seconds_ago: float = 0) -> Run:
    return Run(state, NOW - timedelta(seconds=seconds_ago), NOW - timedelta(seconds=changed_seconds_ago))


@pytest.mark.parametrize(
    ("planned", "begun", "problem"),
    [
        ([run("Scheduled", -30)], [run("Completed", 30)], None),
        ([run("Scheduled", 20)], [], None),
        ([run("Late", 180), run("Scheduled", -30)], [], "is overdue: a run was due 3 minutes ago"),
        ([run("Scheduled", -30)], [run("Pending", 200, 190)], "a run has been Pending for 3 minutes"),
        ([run("Scheduled", -30)], [run("Pending", 40, 30)], None),
        ([], [run("Completed", 7200)], "plans no run of it"),
    ],
)
def test_a_schedule_that_is_not_alive_is_reported(planned: list[Run], begun: list[Run], problem: str | None) -> None:
    found = judge("drain/scheduled", "spillway", True, planned, begun, NOW)
    assert found is None if problem is None else problem in (found or "")


@pytest.mark.parametrize(
    ("states", "failed"),
    [
        (["Failed", "Completed"], True),
        (["Completed", "Failed"], False),
        (["Running", "Cancelled", "Crashed"], True),
        (["Running", "Cancelled"], False),
        ([], False),
    ],
)
def test_the_last_run_that_ended_by_itself_decides(states: list[str], failed: bool) -> None:
    found = judge_results("drain/scheduled", [run(state, 60 * at) for at, state in enumerate(states)])
    assert (found is not None) == failed


@pytest.mark.parametrize("without", [[], ["drain_every"], ["reconcile_cron", "maintain_cron"]])
def test_the_settings_schedule_what_is_deployed(without: list[str]) -> None:
    config = Settings(_env_file=None, **dict.fromkeys(without, ""))  # type: ignore[arg-type]
    assert scheduled_by_settings(config) == {one.full_name for one in deployments(config) if one.schedule}


def test_a_deployment_without_a_schedule_needs_no_planned_run() -> None:
    assert judge("redrive/ad-hoc", "spillway", False, [], [], NOW) is None


@pytest.mark.usefixtures("prefect_server")
def test_a_due_run_that_no_worker_starts_is_overdue_on_a_real_server() -> None:
    """No worker runs the deployment: its run becomes due, and a minute later the status reports it."""
    from flows.drain import drain

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(drain)
        deployment = client.create_deployment(
            flow_id,
            name="nobody-runs-it",
            parameters={"stream": "events*"},
            schedules=[{"schedule": IntervalSchedule(interval=timedelta(hours=1)), "active": True}],
        )
        try:
            client.create_flow_run_from_deployment(deployment)
            later = datetime.now(UTC) + timedelta(minutes=5)
            found = {one.name: one for one in deployment_statuses(client, later)}["drain/nobody-runs-it"]
            assert found.problem is not None
            assert "is overdue" in found.problem
            assert "spillway serve" in found.problem
            assert (found.stream, found.scheduled, found.last) == ("events*", True, None)
        finally:
            client.delete_deployment(deployment)


def test_streams_show_lag_last_drain_and_what_waits_in_quarantine(
    prefect_server: str, redis_client: redis.Redis, database: psycopg.Connection, stream: str
) -> None:
    from flows.drain import drain

    before = datetime.now(UTC)
    send(redis_client, stream, [*(event(n) for n in range(20)), {b"event_id": b"no uuid", b"time": b"x"}])
    drain(stream)
    send(redis_client, stream, [event(n) for n in range(100, 107)])
    send(redis_client, f"{stream}-new", [event(n) for n in range(3)])
    drained, new = stream_statuses(redis_client, read_ledger_figures(database), [f"{stream}-new", f"{stream}-absent"])
    assert (drained.name, drained.lag, drained.waiting, drained.lost) == (stream, 7, 1, 0)
    assert drained.last_drained is not None
    assert before < drained.last_drained < datetime.now(UTC) + timedelta(seconds=5)
    assert (new.name, new.lag, new.last_drained) == (f"{stream}-new", 3, None)
    longest = (datetime.now(UTC) - before).total_seconds() + 1
    assert 0 < drained.behind_seconds < longest
    assert 0 < new.behind_seconds < longest
    redis_client.delete(stream)
    assert stream_statuses(redis_client, read_ledger_figures(database))[0].lag is None
