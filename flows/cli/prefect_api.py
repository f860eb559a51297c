"""The Prefect server that commands need."""

from __future__ import annotations

import atexit
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from prefect import tags
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException, PrefectHTTPStatusError
from prefect.settings import get_current_settings

from flows.runs import TAG
from infra.errors.exceptions import PrefectUnreachable, Terminal
from infra.errors.redact import one_line
from infra.locations import without_credentials
from infra.settings import settings


def require_prefect(needs_redis: bool = True) -> None:
    """Raise `Terminal` if the Prefect server does not answer, or not to us. If none is set, Prefect starts a temporary
    one."""
    config = settings()  # a wrong setting is reported before a server is started
    if needs_redis:
        _ = config.redis
    if not get_current_settings().api.url:
        threading.Thread(target=_end_with_this_process, daemon=True).start()
    error: BaseException | None
    try:
        with get_client(sync_client=True) as client:
            error = client.api_healthcheck()
            if error is None:
                client.api_version()  # unlike the health check, it needs the password
    except (OSError, RuntimeError, httpx.HTTPError, httpx.InvalidURL, PrefectException) as refused:
        error = refused
    if error is not None:
        what, step = _advice(error)
        raise Terminal(f"the Prefect server ({_url()}) {what}; {step}")


def _advice(error: BaseException) -> tuple[str, str]:
    """What is wrong with the Prefect server, and what the user does about it."""
    reason, api = _reason(error), get_current_settings().api
    if isinstance(error, PrefectHTTPStatusError) and error.response.status_code in (401, 403):
        found = "refuses the password" if api.auth_string or api.key else "expects a password, found none"
        return found, "nothing was done; set PREFECT_API_AUTH_STRING=user:password as on the server"
    if isinstance(error, FileNotFoundError):
        return "was not asked: there is no such file as PREFECT_API_SSL_CERT_FILE", "nothing was done; correct it"
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        step = "name the certificate of its authority in PREFECT_API_SSL_CERT_FILE, and the host as in its certificate"
        return f"has a certificate that is not trusted: {reason}", step
    if "[SSL" in reason:
        return f"does not speak TLS: {reason}", "write http:// in PREFECT_API_URL, or name the TLS port"
    if isinstance(error, httpx.RemoteProtocolError) and (api.url or "").startswith("http:"):
        return f"does not speak HTTP without TLS: {reason}", "write https:// in PREFECT_API_URL"
    return f"does not answer: {reason}", "start it (prefect server start), or unset PREFECT_API_URL to do without"


@contextmanager
def translate_prefect_errors() -> Iterator[None]:
    """Raise `PrefectUnreachable` if the Prefect server stops answering in a run. What was committed stays."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        # A wrong call of a flow says nothing about the server. An unreachable one is a plain RuntimeError at times.
        is_other = isinstance(error, RuntimeError) and "Failed to reach API" not in str(error)
        if is_other or isinstance(error, TypeError):
            raise
        raise PrefectUnreachable(
            f"the Prefect server ({_url()}) stopped answering during the run: {_reason(error)}; what was loaded is"
            " committed; start the server (prefect server start), then run this command again"
        ) from error


@contextmanager
def as_prefect_run() -> Iterator[None]:
    """A block that calls a flow: its run has the tags `spillway`, like the deployments, and `cli`."""
    with translate_prefect_errors(), tags(TAG, "cli"):
        yield


def _url() -> str:
    url = get_current_settings().api.url
    return without_credentials(url) if url else "a temporary one"


def _reason(error: BaseException) -> str:
    """The message of an error; only its class if the URL has credentials, since a library may quote them."""
    return type(error).__name__ if "@" in (get_current_settings().api.url or "") else one_line(error)


# Waits for the end of its standard input, which comes when this process ends for any reason.
_WATCH = 'read -r _; kill -TERM "$0"; sleep 10; kill -KILL "$0"'
_POLL_SECONDS = 0.05
_GIVE_UP_SECONDS = 300  # by then Prefect has started its server, or given up


def _end_with_this_process() -> None:
    """Make the temporary server end with this process, even if a signal ends it while the server is still starting.

    Prefect stops it at a normal exit only: after SIGTERM, SIGHUP or SIGKILL it would go on, with 200 MB.
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
        start_new_session=True,  # signals of the terminal must not reach it
    )
    # Runs before Prefect's own handler, which was registered earlier and stops the server: nothing is left to watch.
    atexit.register(watcher.kill)
