"""Prefect artifacts: what a run did, as a table in Prefect's interface."""

from __future__ import annotations

from typing import Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.exceptions import PrefectException

from infra.display import cell
from infra.errors.redact import one_line


def publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Publish `rows` as the table artifact `key`. A failure is only logged: the work is already done."""
    try:
        table = [{name: cell(value) for name, value in row.items()} for row in rows]
        create_table_artifact(key=key, table=table, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifact %r could not be published: %s", key, one_line(error))
