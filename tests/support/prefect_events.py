"""Events that a Prefect server has stored."""

from __future__ import annotations

from typing import Any

from prefect import get_client

from tests.support.waiting import wait_until


def events_about(resource: str) -> list[dict[str, Any]]:
    """Those about a resource, the oldest first."""
    query = {"filter": {"resource": {"id": [resource]}, "order": "ASC"}}
    with get_client(sync_client=True) as client:
        answer = client._client.post("/events/filter", json=query)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def awaited_events(resource: str, violation: str = "") -> list[dict[str, Any]]:
    """The events about a resource, as soon as there is one; they are stored a moment after they are emitted.

    `violation`: only events of violations that begin so.
    """

    def wanted() -> list[dict[str, Any]]:
        return [
            one for one in events_about(resource) if not violation or one["payload"]["violation"].startswith(violation)
        ]

    wait_until(wanted, every=0.5)
    return wanted()
