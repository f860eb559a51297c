"""The name and the log of the run: Prefect's for a flow, Python's otherwise."""

from __future__ import annotations

import logging
import sys

_LOGGER = logging.getLogger("spillway")


def run_logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    """The logger of the Prefect run that the caller belongs to, or `spillway` if there is none."""
    context = sys.modules.get("prefect.context")
    if context is None or not (context.FlowRunContext.get() or context.TaskRunContext.get()):
        return _LOGGER
    from prefect import get_run_logger

    return get_run_logger()


def run_name(otherwise: str) -> str:
    """The name of the Prefect run that the caller belongs to; `otherwise` if there is none."""
    if "prefect" not in sys.modules:
        return otherwise
    from prefect.runtime import flow_run

    return flow_run.name or otherwise
