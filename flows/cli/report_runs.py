"""The runs of Spillway's flows on Prefect's server, for a report."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.sorting import FlowRunSort

from flows.cli.prefect_api import require_prefect, translate_prefect_errors
from flows.cli.schedule_status import FLOWS, deployment_statuses
from infra.display import display_name

_PAGE = 200  # the most that Prefect's API returns at once
_MOST_RUNS = 20_000  # a drain a minute for two weeks


def read_runs(span: timedelta) -> tuple[list[dict[str, Any]], list[str]]:
    """The runs that were due in the last `span`, the latest first, and the problems of the schedule.

    A run has `name`, `flow`, `state` (Prefect's word), `due`, `started` (None if it has not), and `seconds` of work.
    Raises `PrefectUnreachable`.
    """
    require_prefect()
    now = datetime.now(UTC)
    with translate_prefect_errors(), get_client(sync_client=True) as client:
        problems = [one.problem for one in deployment_statuses(client, now) if one.problem]
        ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))
        flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=ours)}
        due = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=now - span, before_=now))
        found: list[dict[str, Any]] = []
        while len(found) < _MOST_RUNS:
            page = client.read_flow_runs(
                flow_filter=ours,
                flow_run_filter=due,
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=_PAGE,
                offset=len(found),
            )
            found += [
                {
                    "name": display_name(run.name),
                    "flow": flows.get(run.flow_id, ""),
                    "state": run.state_name or "",
                    "due": run.expected_start_time,
                    "started": run.start_time,
                    "seconds": run.total_run_time.total_seconds(),
                }
                for run in page
            ]
            if len(page) < _PAGE:
                break
    return found, problems
