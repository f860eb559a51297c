"""Whether the schedule works: the last run of each deployment, its result, the next run, and overdue runs.

The runs on Prefect's server decide, not the registered schedule: a server whose scheduler does not work accepts every
deployment, lists it as ready, and never plans a run.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.runs import EVERY_TAG, SERVE_TAG, TAG
from infra.display import coarse_age
from infra.settings import Settings

FLOWS = ("drain", "reconcile", "maintain", "redrive", "backfill")
DRAIN = "drain/scheduled"

# A worker polls every 15 s by default, and a run starts within seconds of that.
GRACE = timedelta(seconds=60)
_FAILED = ("Failed", "Crashed", "TimedOut")
_ENDED = ("Completed", *_FAILED)  # not "Cancelled": a run that came due during another one says nothing
_RUNS_LOOKED_AT = 20


@dataclass(frozen=True)
class Run:
    """One run of a deployment: its state in Prefect's word (`Completed`, `Failed`, …) and when it was due."""

    state: str
    due: datetime
    changed: datetime  # when it entered that state


@dataclass(frozen=True)
class DeploymentStatus:
    """One deployment. `scheduled`: it has an active schedule. `problem`: why it does not work as scheduled, else None.

    `last`: the last run that started or ended. `next_due`: of the next planned run. `every`: the seconds between the
    looks of a `spillway serve` that drains in its own process, where Prefect plans no runs; else None.
    `paused`: nothing starts it.
    """

    name: str
    stream: object  # its parameter of that name
    scheduled: bool
    last: Run | None
    next_due: datetime | None
    problem: str | None
    every: float | None = None
    paused: bool = False


def scheduled_by_settings(config: Settings) -> set[str]:
    """The deployments that have a schedule by the settings."""
    crons = {"reconcile/daily": config.reconcile_cron, "maintain/daily": config.maintain_cron}
    return {name for name, cron in crons.items() if cron.strip()} | ({DRAIN} if config.drain_every else set())


def judge_pause(name: str, pool: str | None, paused: bool) -> str:
    """Why nothing starts a deployment that should be scheduled, and what to type."""
    command = "spillway deploy" if pool else "spillway serve, or spillway deploy for workers"
    if paused:
        return f"{name} is paused: spillway serve ended, or somebody paused it: {command}"
    return f"{name} has no active schedule, although the settings schedule it: {command}"


def judge_results(name: str, begun: Sequence[Run]) -> str | None:
    """That the last run of a scheduled deployment failed; None if it did not. `begun`: as for `judge`."""
    ended = next((run.state for run in begun if run.state in _ENDED), None)
    if ended not in _FAILED:
        return None
    return f"the last run of {name} ended as {ended}: its log in Prefect, or that of spillway serve, says why"


def judge(
    name: str, pool: str | None, scheduled: bool, planned: Sequence[Run], begun: Sequence[Run], now: datetime
) -> str | None:
    """Why the schedule of a deployment does not work; None if it does.

    `planned`: its runs that have not started, `begun`: its other runs, the latest first. `pool`: its work pool.
    """
    worker = f"start a worker (prefect worker start --pool {pool})" if pool else "start spillway serve"
    overdue = sorted(run.due for run in planned if now - run.due > GRACE)
    if overdue:
        return f"{name} is overdue: a run was due {_ago(now - overdue[0])} ago and has not started; {worker}"
    pending = [run for run in begun if run.state == "Pending" and now - run.changed > GRACE]
    if pending:
        since = _ago(now - pending[0].changed)
        return f"{name}: a run has been Pending for {since}: its worker died before starting it; {worker}"
    if scheduled and not any(run.due >= now - GRACE for run in planned):
        return (
            f"{name} has a schedule, but Prefect's server plans no run of it: its scheduler is not running; read the"
            " server's log, and install the versions of requirements.lock"
        )
    return None


def judge_serving(name: str, every: float, last_polled: datetime | None, now: datetime) -> str | None:
    """Why a drain in the process of `spillway serve` does not work; None if it does.

    `last_polled`: when the process last asked Prefect's server for runs, which it does every 10 s.
    """
    if last_polled is not None and now - last_polled <= GRACE:
        return None
    since = "has never asked" if last_polled is None else f"has not asked for {_ago(now - last_polled)}"
    return (
        f"{name} runs every {every:g} s in the process of spillway serve, which {since} for runs;"
        f" start spillway serve --every {every:g}s"
    )


def _ago(since: timedelta) -> str:
    return coarse_age(since.total_seconds())


def deployment_statuses(
    client: SyncPrefectClient, now: datetime, wanted: Container[str] = ()
) -> list[DeploymentStatus]:
    """Spillway's deployments on this Prefect server, sorted by name. Raises what Prefect's client raises.

    `wanted`: the names of those that should have a schedule.
    """
    ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))
    flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=ours)}
    deployments = client.read_deployments(flow_filter=ours)
    names = [f"{flows[one.flow_id]}/{one.name}" for one in deployments]
    found = [_status(client, name, one, now, name in wanted) for name, one in zip(names, deployments, strict=True)]
    return sorted(found, key=lambda one: (not one.scheduled, one.name))


def _status(
    client: SyncPrefectClient, name: str, deployment: DeploymentResponse, now: datetime, wanted: bool
) -> DeploymentStatus:
    planned = _runs(client, deployment, [StateType.SCHEDULED], FlowRunSort.EXPECTED_START_TIME_ASC)
    others = [kind for kind in StateType if kind != StateType.SCHEDULED]
    begun = _runs(client, deployment, others, FlowRunSort.EXPECTED_START_TIME_DESC)
    every = _served_every(deployment)
    active = any(schedule.active for schedule in deployment.schedules)
    scheduled = active and not deployment.paused
    upcoming = [run.due for run in planned if run.due >= now]
    problem = judge(name, deployment.work_pool_name, scheduled, planned, begun, now)
    if every is not None:
        begun = sorted([*_runs_of_serve(client), *begun], key=lambda run: run.due, reverse=True)
        polled = None if deployment.last_polled is None else _plain(deployment.last_polled)
        problem = problem or judge_serving(name, every, polled, now)
    works = scheduled or every is not None
    if works:
        problem = problem or judge_results(name, begun)
    elif wanted or active:
        problem = judge_pause(name, deployment.work_pool_name, deployment.paused)
    return DeploymentStatus(
        name,
        deployment.parameters.get("stream"),
        works,
        begun[0] if begun else None,
        upcoming[0] if upcoming else None,
        problem,
        every,
        deployment.paused,
    )


def _served_every(deployment: DeploymentResponse) -> float | None:
    """Seconds, from the tag of a deployment that `spillway serve` runs by itself. None if it is not, or has ended."""
    found = [tag for tag in deployment.tags if tag.startswith(EVERY_TAG)]
    if deployment.paused or not found:
        return None
    return float(found[0].removeprefix(EVERY_TAG).removesuffix("s"))


def _runs_of_serve(client: SyncPrefectClient) -> list[Run]:
    """The drains that `spillway serve` started in its own process, the latest first. They have no deployment."""
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["drain"])),
        flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[TAG, SERVE_TAG])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_RUNS_LOOKED_AT,
    )
    return _plain_runs(runs)


def _runs(
    client: SyncPrefectClient, deployment: DeploymentResponse, states: Sequence[StateType], order: FlowRunSort
) -> list[Run]:
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))),
        sort=order,
        limit=_RUNS_LOOKED_AT,
    )
    return _plain_runs(runs)


def _plain_runs(runs: Sequence[FlowRun]) -> list[Run]:
    return [
        Run(
            run.state.name or run.state.type.value.title(), _plain(run.expected_start_time), _plain(run.state.timestamp)
        )
        for run in runs
        if run.state is not None and run.expected_start_time is not None
    ]


def _plain(moment: datetime) -> datetime:
    """Prefect's time as a plain datetime: JSON encoders reject Prefect's own class."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)
