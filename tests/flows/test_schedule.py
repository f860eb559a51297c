"""What the schedule does by itself, on a real server: the README's commands, typed in a pseudo-terminal of a new user.

Nothing here starts a run. Each test waits for one that came due, and for what it did to the table. The port of the
server is the only thing that differs from the README: 4200 may be taken on a machine that runs tests.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import orjson
import pexpect
import psycopg
import pytest
import redis
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Pending, Scheduled

from infra.producers.send import send
from infra.settings import PROJECT_ROOT
from tests.support.oracle import flat_rows, table_rows
from tests.support.ports import free_port
from tests.support.programs import BIN
from tests.support.servers import Servers
from tests.support.stream_entries import event
from tests.support.waiting import wait_until

# Each waits for a minute or two, on one server that they share.
pytestmark = pytest.mark.timeout(1200)

# Each question costs the server, which runs the schedule, some of its time.
wait_for = partial(wait_until, seconds=400, every=1)

_PROMPT = "READY> "
_COMMAND_SECONDS = 240
_SOON = timedelta(minutes=2)  # what the README promises: a run comes due within two minutes
_EVERY_MINUTE = "* * * * *"
SCHEDULED = ["drain/scheduled", "maintain/daily", "reconcile/daily"]
_BLOCK = re.compile(r"On a schedule.*?```bash\n(.*?)```", re.DOTALL)


def readme_commands() -> list[str]:
    """The commands of the README that set up the schedule, without their comments."""
    found = _BLOCK.search((PROJECT_ROOT / "README.md").read_text())
    assert found is not None
    return [line.partition("  #")[0].strip() for line in found[1].splitlines()]


class Terminal:
    """A bash in a pseudo-terminal of 80 columns, with the home of a user who has never run Prefect."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log.open("wb")
        self._bash = pexpect.spawn(
            "/bin/bash", ["--norc"], env=environment, cwd=str(PROJECT_ROOT), dimensions=(24, 80), logfile=self._log
        )
        self._bash.sendline("bind 'set enable-bracketed-paste off'; PS1='READY''> '")
        self._bash.expect_exact(_PROMPT, timeout=_COMMAND_SECONDS)

    def type(self, command: str) -> str:
        """Type a command and wait until it has ended; returns its output. Prompts get no answer."""
        self._bash.sendline(command)
        self._bash.expect_exact(_PROMPT, timeout=_COMMAND_SECONDS)
        return str((self._bash.before or b"").decode(errors="replace"))

    def leave_running(self, command: str) -> None:
        """Type a command that keeps running."""
        self._bash.sendline(command)

    def interrupt(self) -> None:
        """Ctrl-C, then wait for the prompt."""
        self._bash.sendintr()
        self._bash.expect_exact(_PROMPT, timeout=_COMMAND_SECONDS)

    def close(self) -> None:
        """Hang up, as closing the window does."""
        self._bash.close(force=True)
        self._log.close()


@dataclass
class Desk:
    """A Prefect server that was started by typing, with terminals that know its address."""

    client: SyncPrefectClient
    terminal: Terminal
    second: Terminal

    def runs(self, deployment: UUID) -> list[FlowRun]:
        """The runs of a deployment, the earliest first."""
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        return self.client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=200)

    def states(self, deployment: UUID, since: datetime) -> list[tuple[datetime, str]]:
        """When each scheduled run was due, and its state, of those due since a moment."""
        return [
            (run.expected_start_time, run.state.name or "")
            for run in self.runs(deployment)
            if run.auto_scheduled and run.state and run.expected_start_time and run.expected_start_time >= since
        ]

    @contextmanager
    def often(self, deployment: UUID) -> Iterator[None]:
        """A second schedule, so that a test need not wait for minutes; removed at the end, with its planned runs."""
        added = self.client.create_deployment_schedules(
            deployment, [(IntervalSchedule(interval=timedelta(seconds=20)), True)]
        )
        try:
            yield
        finally:
            self.client.delete_deployment_schedule(deployment, added[0].id)

    def deployment(self, name: str) -> UUID:
        return self.client.read_deployment_by_name(name).id


@pytest.fixture(scope="module")
def desk(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("home")
    port = free_port()
    environment = {
        "HOME": str(home),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "PREFECT_SERVER_API_PORT": str(port),
        "SPILLWAY_REDIS_URL": servers.settings.redis,
        "SPILLWAY_DATABASE_URL": servers.settings.database,
    }
    export, server, deploy, worker, _ = [line.replace("4200", str(port)) for line in readme_commands()]
    assert export.startswith("export PREFECT_API_URL=")
    with (
        closing(Terminal(environment, home / "server.log")) as first,
        closing(Terminal(environment, home / "worker.log")) as second,
        closing(Terminal(environment, home / "third.log")) as third,
        SyncPrefectClient(api=f"http://127.0.0.1:{port}/api") as client,
    ):
        first.type(export)
        first.leave_running(server)
        wait_for(lambda: client.api_healthcheck() is None)
        third.type(export)
        assert "deployed to the work pool spillway" in " ".join(third.type(deploy).split())
        # Its test waits for a whole minute of the clock: that passes while others wait, too.
        reconcile = client.read_deployment_by_name("reconcile/daily").id
        client.create_deployment_schedules(reconcile, [(CronSchedule(cron=_EVERY_MINUTE), True)])
        second.type(export)
        second.leave_running(worker)
        yield Desk(client, third, second)
        second.interrupt()


def test_a_run_that_came_due_drains_a_stream_within_two_minutes_of_deploying(
    desk: Desk, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    entries = [event(n) for n in range(300)]
    send(redis_client, "events-web", entries)
    sent = datetime.now(UTC)
    wait_for(lambda: table_rows(database) == flat_rows(entries))
    (drained,) = database.execute("SELECT loaded_by FROM spillway.ledger").fetchall()
    scheduled = [run for run in desk.runs(desk.deployment("drain/scheduled")) if run.auto_scheduled]
    due = [run.expected_start_time for run in scheduled if drained[0].startswith(run.name)]
    assert any(at and at < sent + _SOON for at in due), due


def test_a_cron_deployment_fires(desk: Desk) -> None:
    reconcile = desk.deployment("reconcile/daily")
    since = datetime.now(UTC) - timedelta(hours=1)
    wait_for(lambda: "Completed" in dict(desk.states(reconcile, since)).values())
    for schedule in desk.client.read_deployment_schedules(reconcile):
        if schedule.schedule.model_dump().get("cron") == _EVERY_MINUTE:
            desk.client.delete_deployment_schedule(reconcile, schedule.id)


def test_status_shows_when_each_scheduled_deployment_ran_and_runs_next(
    desk: Desk, database: psycopg.Connection
) -> None:
    """A schedule that the server accepts and never plans has no next run."""

    def shown() -> dict[str, dict[str, object]]:
        said = desk.terminal.type("spillway status --json")
        return {one["name"]: one for one in orjson.loads(said[said.index("{") : said.rindex("}") + 1])["schedule"]}

    def is_planned(one: dict[str, object]) -> bool:
        return one["problem"] is None and bool(one["next_due"] or not one["scheduled"])

    wait_for(lambda: all(map(is_planned, shown().values())), shown=shown)
    found = shown()
    assert [name for name, one in found.items() if one["scheduled"]] == SCHEDULED
    # A run that has just come due is Submitting or Pending for a moment.
    states = ("Completed", "Running")
    wait_for(lambda: dict(shown()["drain/scheduled"]["last"])["state"] in states)  # type: ignore[call-overload]


def test_a_run_that_comes_due_while_another_runs_is_cancelled_and_a_later_one_is_not(
    desk: Desk, servers: Servers, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drain = desk.deployment("drain/scheduled")
    entries = [event(n) for n in range(200)]
    with desk.often(drain), psycopg.connect(servers.settings.database) as locking:
        locking.execute("LOCK TABLE public.events IN ACCESS EXCLUSIVE MODE")
        began = datetime.now(UTC)
        send(redis_client, "events-web", entries)
        wait_for(lambda: "Running" in dict(desk.states(drain, began - timedelta(minutes=1))).values())
        running = max(due for due, state in desk.states(drain, began - timedelta(minutes=1)) if state == "Running")
        wait_for(lambda: any(state == "Cancelled" for due, state in desk.states(drain, running)))
        assert dict(desk.states(drain, running))[running] == "Running"
        cancelled = max(due for due, state in desk.states(drain, began) if state == "Cancelled")
        locking.rollback()
        wait_for(lambda: any(state == "Completed" for _, state in desk.states(drain, cancelled)))
    wait_for(lambda: table_rows(database) == flat_rows(entries))


def test_a_run_left_pending_by_a_dead_worker_blocks_the_schedule_for_a_minute_or_two(
    desk: Desk, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    """By default it blocks the schedule for five and a half minutes; our deployment says one."""
    drain = desk.deployment("drain/scheduled")
    much_later = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=5))
    wait_for(lambda: "Running" not in dict(desk.states(drain, datetime.now(UTC) - timedelta(minutes=5))).values())
    pending = desk.client.create_flow_run_from_deployment(drain, state=much_later).id
    began = datetime.now(UTC)
    desk.client.set_flow_run_state(pending, Pending())
    assert desk.client.read_flow_run(pending).state_name == "Pending"
    with desk.often(drain):
        wait_for(lambda: "Cancelled" in dict(desk.states(drain, began)).values())
        cancelled = min(due for due, state in desk.states(drain, began) if state == "Cancelled")
        wait_for(lambda: any(state == "Completed" for _, state in desk.states(drain, cancelled)))
    completed = min(due for due, state in desk.states(drain, cancelled) if state == "Completed")
    assert completed - began < timedelta(minutes=4), "the minute of our deployment, and not five and a half"
    desk.client.delete_flow_run(pending)


def test_the_deployment_run_of_the_readme_ends_with_the_events_in_the_table(
    desk: Desk, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    entries = [event(n) for n in range(50)]
    send(redis_client, "events-web", entries)
    desk.terminal.type(readme_commands()[-1])  # cancelled if a scheduled run is under way, which drains them as well
    wait_for(lambda: table_rows(database) == flat_rows(entries))


def test_several_drains_come_due_at_the_same_time_and_share_the_streams(
    desk: Desk, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    drain = desk.deployment("drain/scheduled")
    entries = [event(n) for n in range(600)]
    for at in range(6):
        send(redis_client, f"events-{at}", entries[100 * at : 100 * at + 100])
    began = datetime.now(UTC)
    desk.terminal.type("SPILLWAY_DRAIN_WORKERS=3 SPILLWAY_DRAIN_EVERY=30s spillway deploy")

    def together() -> int:
        completed = (due for due, state in desk.states(drain, began) if state == "Completed")
        return max(Counter(completed).values(), default=0)

    wait_for(lambda: together() == 3)
    desk.terminal.type("spillway deploy")
    assert table_rows(database) == flat_rows(entries)


def test_serve_runs_what_came_due_within_two_minutes(
    desk: Desk, redis_client: redis.Redis, database: psycopg.Connection
) -> None:
    desk.second.interrupt()  # the worker
    for deployment in desk.client.read_deployments():
        desk.client.delete_deployment(deployment.id)
    entries = [event(n) for n in range(100)]
    send(redis_client, "events-web", entries)
    began = datetime.now(UTC)
    desk.second.leave_running("spillway serve")
    wait_for(lambda: table_rows(database) == flat_rows(entries))
    assert min(due for due, _ in desk.states(desk.deployment("drain/scheduled"), began)) < began + _SOON
    wait_for(lambda: bool(desk.states(desk.deployment("drain/scheduled"), datetime.now(UTC))))
