"""The Prefect server that commands of the terminal need."""

from __future__ import annotations

import os

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from infra.errors import Terminal, one_line


def demand_prefect() -> None:
    """Raise `Terminal` where the Prefect server does not answer; where none is set, Prefect starts one for a while."""
    try:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
    except (RuntimeError, httpx.HTTPError, PrefectException) as refused:
        error = refused
    if error is not None:
        url = os.environ.get("PREFECT_API_URL", "the one of its profile")
        raise Terminal(
            f"the Prefect server ({url}) does not answer: {one_line(error)}; start it (prefect server start), or unset"
            " PREFECT_API_URL for a temporary one"
        )
