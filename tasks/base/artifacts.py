"""Prefect artifacts and events: what a run did, as a table in Prefect's interface, and what may start an automation.

Without a flow there is no server that could show them, and these functions do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.display import cell
from infra.errors.redact import one_line
from tasks.base.run_log import in_flow, run_logger


def publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Publish `rows` as the table artifact `key`. A failure is only logged: the work is already done."""
    if not in_flow():
        return
    from prefect.artifacts import create_table_artifact

    with _only_logged(key):
        table = [{name: cell(value) for name, value in row.items()} for row in rows]
        create_table_artifact(key=key, table=table, description=description)


def publish_markdown(key: str, text: str) -> None:
    """Publish a text as the Markdown artifact `key`. A failure is only logged."""
    if not in_flow():
        return
    from prefect.artifacts import create_markdown_artifact

    with _only_logged(key):
        create_markdown_artifact(key=key, markdown=text)


@contextmanager
def _only_logged(key: str) -> Iterator[None]:
    import httpx
    from prefect.exceptions import PrefectException

    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        run_logger().warning("the artifact %r could not be published: %s", key, one_line(error))


def emit_event(event: str, kind: str, name: str, payload: dict[str, Any]) -> None:
    """Emit the Prefect event `event` about the resource `spillway.KIND.NAME`."""
    if not in_flow():
        return
    from prefect import events

    resource = {"prefect.resource.id": f"spillway.{kind}.{name}", "prefect.resource.name": name}
    events.emit_event(event=event, resource=resource, payload=payload)
