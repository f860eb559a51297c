"""The deployments: which flows Prefect's schedule runs, and when. The settings decide; nothing is defined elsewhere.

`deploy` registers them with a work pool, whose workers run them; `serve` runs them in this process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect import serve as serve_in_this_process
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.types.entrypoint import EntrypointType
from prefect.workers.process import ProcessWorker
from pydantic import ValidationError

from flows.backfill import backfill
from flows.drain import drain
from flows.maintain import maintain
from flows.reconcile import reconcile
from flows.redrive import redrive
from flows.runs import EVERY_TAG, TAG
from infra.errors.exceptions import Terminal, WrongUse
from infra.json_lines import json_lines
from infra.settings import Settings


def _at_most(runs: int) -> ConcurrencyLimitConfig:
    """A run that comes due while that many are running is cancelled.

    If a worker dies before its run starts, the run blocks the next one for 60 s instead of Prefect's five minutes.
    """
    return ConcurrencyLimitConfig(
        limit=runs, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW, grace_period_seconds=60
    )


@dataclass(frozen=True)
class Deployment:
    """One deployment. `runs`: how many come due at the same time.

    `limit`: how many of its runs may be active, and what happens to the next one; None: any. `every`: the interval in
    which the serving process runs the flow itself, so that Prefect's schedule does not.
    """

    flow: Flow[..., Any]
    name: str
    description: str
    schedule: IntervalSchedule | CronSchedule | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    limit: ConcurrencyLimitConfig | None = None
    runs: int = 1
    every: timedelta | None = None

    @property
    def tags(self) -> list[str]:
        """`spillway status` reads the interval from a tag, since Prefect plans no runs."""
        return [TAG, *([f"{EVERY_TAG}{self.every.total_seconds():g}s"] if self.every else [])]

    @property
    def schedules(self) -> list[DeploymentScheduleCreate]:
        """A schedule for each of the runs."""
        return [DeploymentScheduleCreate(schedule=self.schedule) for _ in range(self.runs) if self.schedule]

    @property
    def when(self) -> str:
        """The schedule in words."""
        if self.every is not None:
            return f"every {self.every.total_seconds():,.0f} s, in this process"
        match self.schedule:
            case IntervalSchedule(interval=interval):
                every = f"every {interval.total_seconds():,.0f} s"
                return every if self.runs == 1 else f"{every}, {self.runs} runs"
            case CronSchedule(cron=cron):
                return f"{cron} (UTC)"
        return "on demand"

    @property
    def full_name(self) -> str:
        """`flow/deployment`, as Prefect's commands take it."""
        return f"{self.flow.name}/{self.name}"


def deployments(config: Settings, every: timedelta | None = None) -> list[Deployment]:
    """All deployments, with the schedules of the settings. Raises `WrongUse` for an invalid cron expression.

    `every`: the serving process runs the drain itself in this interval, so it has no schedule.
    """
    runs = config.drain_workers if config.task_runner == "threads" and every is None else 1
    interval = None if every is not None else config.drain_every
    return [
        Deployment(
            drain,
            "scheduled",
            "Drains the scheduled streams into the events table, exactly once.",
            None if interval is None else IntervalSchedule(interval=interval),
            {"stream": list(config.scheduled_streams), "time_limit": _time_limit(config, every or config.drain_every)},
            limit=_at_most(runs),
            runs=runs,
            every=every,
        ),
        Deployment(
            reconcile,
            "daily",
            "Checks that the totals of every stream balance, and fails if they do not.",
            _cron("reconcile_cron", config.reconcile_cron),
            {"stream": "*", "files": False},
        ),
        Deployment(
            maintain,
            "daily",
            "Compresses, archives and drops chunks as the settings say, and checks the result.",
            _cron("maintain_cron", config.maintain_cron),
        ),
        Deployment(redrive, "ad-hoc", "Replays entries of the quarantine, exactly once."),
        Deployment(backfill, "ad-hoc", "Loads files, the archive or a past range of a stream, exactly once."),
    ]


def _time_limit(config: Settings, every: timedelta | None) -> float | None:
    """Seconds after which a scheduled drain reads no further batch, so that it ends before the next run is due."""
    if config.drain_time_limit is not None:
        return config.drain_time_limit.total_seconds()
    return None if every is None else 0.75 * every.total_seconds()


def _cron(name: str, expression: str) -> CronSchedule | None:
    """The schedule of a setting; None if it is empty."""
    if not expression.strip():
        return None
    try:
        return CronSchedule(cron=expression.strip(), timezone="UTC")
    except ValidationError as error:
        raise WrongUse(
            f"settings: SPILLWAY_{name.upper()}: expected a cron expression such as 30 4 * * *, found {expression!r};"
            " correct the variable or the line in .env"
        ) from error


def deploy(found: list[Deployment], pool: str) -> None:
    """Register deployments with a work pool. If there is no pool of that name, a process pool is created.

    An existing deployment is replaced, including its schedules.
    """
    pull_steps = [{"flows.environment.project_folder": {"deployed_from": str(Path.cwd())}}]
    with get_client(sync_client=True) as client:
        _ensure_pool(client, pool)
        for one in found:
            client.create_deployment(
                client.create_flow_from_name(one.flow.name),
                one.name,
                description=one.description,
                entrypoint=f"{one.flow.fn.__module__}.{one.flow.fn.__name__}",
                work_pool_name=pool,
                pull_steps=pull_steps,
                schedules=one.schedules,
                parameters=one.parameters,
                parameter_openapi_schema=one.flow.parameters.model_dump_for_openapi(),
                enforce_parameter_schema=True,
                concurrency_limit=one.limit.limit if one.limit else None,
                concurrency_options=_options(one.limit) if one.limit else None,
                paused=False,  # `serve` pauses its deployments when it ends
                tags=one.tags,
            )


def _ensure_pool(client: SyncPrefectClient, pool: str) -> None:
    try:
        client.read_work_pool(pool)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))


def _options(limit: ConcurrencyLimitConfig) -> ConcurrencyOptions:
    """A limit without its number, which Prefect's API takes separately."""
    return ConcurrencyOptions(
        collision_strategy=limit.collision_strategy, grace_period_seconds=limit.grace_period_seconds
    )


def serve(found: list[Deployment]) -> None:
    """Register deployments without a work pool and run what comes due, until interrupted. Raises as `served`."""
    serve_in_this_process(*served(found), print_starting_message=not json_lines())


def served(found: list[Deployment]) -> list[RunnerDeployment]:
    """The deployments that this process serves, as Prefect's runner takes them. Their old schedules are deleted.

    Deployments that belong to a work pool are left to its workers. Raises `Terminal` if the scheduled drain is one of
    them: a worker would take its runs.
    """
    with get_client(sync_client=True) as client:
        pools = {one.full_name: _delete_old_schedules(client, one) for one in found}
    if pool := pools["drain/scheduled"]:
        raise Terminal(
            f"serve: drain/scheduled is deployed to the work pool {pool!r}, whose workers run it; start a worker"
            f" (prefect worker start --pool {pool}), or run `prefect deployment delete drain/scheduled`, then"
            " `spillway serve` again"
        )
    return [_served(one) for one in found if not pools[one.full_name]]


def _delete_old_schedules(client: SyncPrefectClient, deployment: Deployment) -> str | None:
    """Return the work pool of a deployment; None if it has none.

    If it has none, its old schedules are deleted: Prefect's runner keeps them if the new list is empty.
    """
    try:
        registered = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        return None
    if registered.work_pool_name is None:
        for schedule in registered.schedules:
            client.delete_deployment_schedule(registered.id, schedule.id)
    return registered.work_pool_name


def _served(one: Deployment) -> Any:  # to_deployment is sync here, whatever its type says
    return one.flow.to_deployment(
        name=one.name,
        description=one.description,
        parameters=one.parameters,
        schedules=one.schedules or None,
        concurrency_limit=one.limit,
        tags=one.tags,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
