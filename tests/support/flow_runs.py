"""Flow runs as the Prefect server records them."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort


def last_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    return run


def failed_with(run: FlowRun, message: str) -> bool:
    state = run.state
    assert state is not None
    assert state.type == StateType.FAILED, state
    return message in str(state.message)
