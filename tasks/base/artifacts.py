"""Prefect artifacts of what a run did."""

from __future__ import annotations

from typing import Any

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.exceptions import PrefectException

from infra.display import cell
from infra.errors.redact import one_line


def publish(key: str, rows: list[dict[str, Any]], description: str) -> None:
    """Publish a table artifact. Where that cannot be, the run has still done what it did: a warning."""
    try:
        shown = [{name: cell(value) for name, value in row.items()} for row in rows]
        create_table_artifact(key=key, table=shown, description=description)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("the artifact %r is not published: %s", key, one_line(error))
