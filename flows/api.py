"""The Prefect server that commands of the terminal need."""

from __future__ import annotations

import atexit
import subprocess
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
    _end_with_this_process()
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


# Waits until its standard input ends, which it does when this process is gone, whatever ended it.
_WATCH = 'read -r _; kill -TERM "$0"; sleep 10; kill -KILL "$0"'
_watched: set[int] = set()


def _end_with_this_process() -> None:
    """Have the temporary server end with this process, also where a signal ends it.

    Prefect stops it at a normal exit only: after SIGTERM, SIGHUP or SIGKILL it would stay for good, with 200 MB.
    """
    from prefect.server.api.server import SubprocessASGIServer

    for server in list(SubprocessASGIServer._instances.values()):
        process = server.server_process
        if process is None or process.pid in _watched:
            continue
        _watched.add(process.pid)
        watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, str(process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what a terminal sends to its group is not for it
        )
        # Registered after Prefect's own, so called before it: at a normal exit Prefect stops the server.
        atexit.register(watcher.kill)
