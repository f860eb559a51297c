"""The deployments of the session's Prefect server: a test that registers its own begins without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from tests.support.prefect_server import deploy_all


@contextmanager
def without_deployments(env: Mapping[str, str]) -> Iterator[None]:
    """No deployments and no runs of `spillway serve`; afterwards the session's worker has its deployments again."""
    _delete_all()
    yield
    _delete_all()
    deploy_all(env)


def runs_of_serve() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=["spillway", "serve"])))


def _delete_all() -> None:
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        for run in runs_of_serve():
            client.delete_flow_run(run.id)
