"""URLs that are kept in a block of Prefect: `SPILLWAY_DATABASE_URL=prefect://secret/NAME`.

The block is read when a run connects, so a changed password needs no new deployment. A template in `prefect.yaml` would
not do: `prefect deploy` replaces it by the value, and the API returns that to everybody who may read deployments.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode

from infra.errors.exceptions import Terminal, Transient, WrongUse
from infra.errors.redact import one_line

_REFERENCE = re.compile(r"prefect://(?P<kind>[a-z0-9-]+)/(?P<name>[A-Za-z0-9._-]+)")
# Long enough that a drain every few seconds does not ask each time, short enough for a changed password.
_KEPT_SECONDS = 60.0
_kept: dict[str, tuple[float, str]] = {}
_lock = Lock()


def is_reference(value: str) -> bool:
    """Whether a value names a block, well formed or not."""
    return value.startswith("prefect://")


def check_reference(value: str) -> str | None:
    """Why a value is not a reference to a block that can hold a URL; None if it is one."""
    found = _REFERENCE.fullmatch(value)
    if found is None or found["kind"] not in _READERS:
        return f"expected prefect://KIND/NAME, where KIND is one of {', '.join(_READERS)}"
    return None


def resolve(variable: str, reference: str) -> str:
    """The URL in a block. `variable`: the setting, for messages, which never contain the URL.

    Raises `Terminal` if there is no such block or it has no URL, `Transient` if Prefect's server does not answer.
    """
    with _lock:
        found = _kept.get(reference)
        if found is None or time.monotonic() - found[0] > _KEPT_SECONDS:
            found = time.monotonic(), _read(variable, reference)
            _kept[reference] = found
    return found[1]


def _read(variable: str, reference: str) -> str:
    match = _REFERENCE.fullmatch(reference)
    assert match is not None  # the settings have been validated
    data = _block_data(variable, reference, match["kind"], match["name"])
    try:
        return _READERS[match["kind"]](data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Terminal(
            f"{variable}: the block {reference} has no URL; nothing was read; correct it in Prefect (Blocks)"
        ) from None


def _block_data(variable: str, reference: str, kind: str, name: str) -> Mapping[str, Any]:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectException
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise WrongUse(
            f"{variable}: {reference} is a block of a Prefect server, and PREFECT_API_URL names none; nothing was read;"
            " set it"
        )
    try:
        with get_client(sync_client=True) as client:
            block = client.read_block_document_by_name(name, kind, include_secrets=True)
    except ObjectNotFound:
        raise Terminal(
            f"{variable}: Prefect has no block {reference}; nothing was read; create it (prefect block create {kind})"
            " or correct the name"
        ) from None
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        raise Transient(
            f"{variable}: the block {reference} could not be read: {one_line(error)}; nothing was"
            " changed; start Prefect's server or correct PREFECT_API_URL, then run the command again"
        ) from None
    return block.data


def _of_secret(data: Mapping[str, Any]) -> str:
    value: Any = data["value"]
    return _text(value)


def _of_redis(data: Mapping[str, Any]) -> str:
    """The block of prefect-redis."""
    login = _login(data.get("username"), data.get("password"))
    scheme = "rediss" if data.get("ssl") else "redis"
    return f"{scheme}://{login}{data['host']}:{data.get('port') or 6379}/{data.get('db') or 0}"


def _of_sqlalchemy(data: Mapping[str, Any]) -> str:
    """The blocks of prefect-sqlalchemy: a URL, or its parts. The driver is SQLAlchemy's and of no use here."""
    found: Any = data.get("connection_info") or data
    if isinstance(found, str) or found.get("url"):
        url = _text(found if isinstance(found, str) else found["url"])
        return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)
    login = _login(found.get("username"), found.get("password"))
    query = urlencode(found.get("query") or {})
    return f"postgresql://{login}{found['host']}:{found.get('port') or 5432}/{quote(found['database'], safe='')}" + (
        f"?{query}" if query else ""
    )


def _login(user: str | None, password: str | None) -> str:
    if not user and not password:
        return ""
    return f"{quote(user or '', safe='')}{':' + quote(password, safe='') if password else ''}@"


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


# By the slug of their type. None of the packages has to be installed here: the API returns the fields.
_READERS = {
    "secret": _of_secret,
    "redis-database": _of_redis,
    "database-credentials": _of_sqlalchemy,
    "sqlalchemy-connector": _of_sqlalchemy,
}
