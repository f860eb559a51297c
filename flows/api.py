"""The Prefect server that commands of the terminal need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings

from infra.errors import PrefectGone, Terminal, one_line


def demand_prefect() -> None:
    """Raise `Terminal` where the Prefect server does not answer; where none is set, Prefect starts one for a while."""
    try:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
    except (RuntimeError, httpx.HTTPError, PrefectException) as refused:
        error = refused
    if error is not None:
        raise Terminal(
            f"the Prefect server ({_url()}) does not answer: {one_line(error)}; start it (prefect server start), or"
            " unset PREFECT_API_URL for a temporary one"
        )


@contextmanager
def prefect_explained() -> Iterator[None]:
    """Raise `PrefectGone` where the Prefect server goes away while a flow runs. What the flow committed stays."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        # Of the RuntimeErrors only Prefect's own, which has no class.
        if isinstance(error, RuntimeError) and "Failed to reach API" not in str(error):
            raise
        raise PrefectGone(
            f"the Prefect server ({_url()}) went away during the run: {one_line(error)}; what was loaded is committed:"
            " start the server (prefect server start), then run this again"
        ) from error


def _url() -> str:
    return get_current_settings().api.url or "a temporary one"
