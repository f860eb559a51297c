"""The Prefect server that commands of the terminal need."""

from __future__ import annotations

import atexit
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import get_current_settings

from infra.errors.exceptions import PrefectUnreachable, Terminal, Unsuccessful
from infra.errors.redact import one_line
from infra.locations import without_credentials
from infra.settings import settings


def demand_prefect(needs_redis: bool = True) -> None:
    """Raise `Terminal` where the Prefect server does not answer; where none is set, Prefect starts one for a while."""
    config = settings()  # what is set wrongly is refused before a server is started for it
    if needs_redis:
        _ = config.redis
    if not get_current_settings().api.url:
        threading.Thread(target=_end_with_this_process, daemon=True).start()
    try:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
    except (RuntimeError, httpx.HTTPError, httpx.InvalidURL, PrefectException) as refused:
        error = refused
    if error is not None:
        raise Terminal(
            f"the Prefect server ({_url()}) does not answer: {_reason(error)}; start it (prefect server start), or"
            " unset PREFECT_API_URL for a temporary one"
        )


@contextmanager
def translate_prefect_errors() -> Iterator[None]:
    """Raise `PrefectUnreachable` if the Prefect server stops answering in a run. What was committed stays."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        # Of the RuntimeErrors only Prefect's own, which has no class.
        if isinstance(error, RuntimeError) and "Failed to reach API" not in str(error):
            raise
        raise PrefectUnreachable(
            f"the Prefect server ({_url()}) went away during the run: {_reason(error)}; what was loaded is committed:"
            " start the server (prefect server start), then run this again"
        ) from error


def run_flow(flow: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Unsuccessful | None]:
    """The result of a flow, and the error with which its command ends after it has printed that, if it has one."""
    try:
        with translate_prefect_errors():
            return flow(), None
    except Unsuccessful as error:
        return error.result, error


def _url() -> str:
    url = get_current_settings().api.url
    return without_credentials(url) if url else "a temporary one"


def _reason(error: BaseException) -> str:
    """The words of an error; only its kind if the URL has credentials, of which a library may quote a piece."""
    return type(error).__name__ if "@" in (get_current_settings().api.url or "") else one_line(error)


# Waits until its standard input ends, which it does when this process is gone, whatever ended it.
_WATCH = 'read -r _; kill -TERM "$0"; sleep 10; kill -KILL "$0"'
_POLL_SECONDS = 0.05
_GIVE_UP_SECONDS = 300  # by then Prefect has started its server, or given up


def _end_with_this_process() -> None:
    """Have the temporary server end with this process, also where a signal ends it, also while it still starts.

    Prefect stops it at a normal exit only: after SIGTERM, SIGHUP or SIGKILL it would stay for good, with 200 MB.
    """
    from prefect.server.api.server import SubprocessASGIServer

    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while time.monotonic() < deadline:
        for server in list(SubprocessASGIServer._instances.values()):
            if (process := server.server_process) is not None:
                _watch(process.pid)
                return
        time.sleep(_POLL_SECONDS)


def _watch(pid: int) -> None:
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # what a terminal sends to its group is not for it
    )
    # Called before Prefect's own handler, which was registered earlier and stops the server: nothing is left to watch.
    atexit.register(watcher.kill)
