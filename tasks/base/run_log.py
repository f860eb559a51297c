"""The run that the caller belongs to: whether it is a Prefect flow, its name and its log. Without importing Prefect."""

from __future__ import annotations

import logging
import sys

_LOGGER = logging.getLogger("spillway")


def in_flow() -> bool:
    """Whether the caller belongs to a run of a Prefect flow."""
    context = sys.modules.get("prefect.context")
    return context is not None and context.FlowRunContext.get() is not None


def in_deployment() -> bool:
    """Whether the caller belongs to a run of a Prefect deployment, such as one of the schedule."""
    if not in_flow():
        return False
    from prefect.runtime import deployment

    return deployment.id is not None


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """Prefect's logger of the run, or the logger `spillway` outside of a flow."""
    if not in_flow():
        return _LOGGER
    from prefect import get_run_logger

    return get_run_logger()


def run_name(otherwise: str) -> str:
    """The name that Prefect gave the run, or `otherwise` outside of a flow."""
    if not in_flow():
        return otherwise
    from prefect.runtime import flow_run

    return flow_run.name or otherwise
