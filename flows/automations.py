"""Prefect automations that send a notification when a run has found a loss, or a violation of `maintain`."""

from __future__ import annotations

from dataclasses import dataclass

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import AutomationCore, EventTrigger, Posture, ResourceSpecification, SendNotification
from prefect.exceptions import ObjectNotFound

from flows.runs import TAG
from infra.errors.exceptions import WrongUse
from tasks.ledger.drain_report import LOST_EVENT
from tasks.maintain.maintain_report import VIOLATION_EVENT


@dataclass(frozen=True)
class _Notification:
    """What is sent for one event. `subject` and `body` are Jinja templates, which Prefect fills in."""

    name: str
    event: str
    resources: str
    subject: str
    body: str


_NOTIFICATIONS = (
    _Notification(
        "spillway: entries lost",
        LOST_EVENT,
        "spillway.stream.*",
        "Spillway: {{ event.payload.entries }} lost of the entries of {{ event.resource.name }}",
        "A drain found entries of the stream {{ event.resource.name }} that left Redis before they were read:"
        " {{ event.payload.entries }}, with ids in {{ event.payload.ids }}. Everything else is loaded. See «lost is not"
        " 0» in docs/operations.md; then record who has accepted it: spillway stream accept-loss",
    ),
    _Notification(
        "spillway: maintain violation",
        VIOLATION_EVENT,
        "spillway.table.*",
        "Spillway: maintain found a violation in {{ event.resource.name }}",
        "{{ event.payload.violation }}. See what maintain would do: spillway maintain --dry-run",
    ),
)


def create_automations(block: str) -> list[tuple[str, str]]:
    """Create or update the automations; returns the name of each, and `created`, `updated` or `updated, disabled`.

    `block`: the notification block, such as `slack-webhook/ops`. An automation that somebody has disabled stays so.
    Raises `WrongUse` if there is no such block.
    """
    kind, _, name = block.partition("/")
    with get_client(sync_client=True) as client:
        try:
            found = client.read_block_document_by_name(name, kind, include_secrets=False)
        except ObjectNotFound:
            raise WrongUse(
                f"automations: --notify {block!r}: expected TYPE/NAME of a block, as `prefect block ls` shows it, found"
                " no such block; nothing was changed; create it in Prefect (Blocks), then try again"
            ) from None
        capabilities = found.block_schema.capabilities if found.block_schema is not None else []
        if "notify" not in capabilities:
            raise WrongUse(
                f"automations: --notify {block!r}: expected a block that sends notifications, found one that cannot;"
                " nothing was changed; create such a block in Prefect (Blocks), then try again"
            )
        return [(one.name, _save(client, one, found.id)) for one in _NOTIFICATIONS]


def _save(client: SyncPrefectClient, one: _Notification, block_id: object) -> str:
    existing = client.read_automations_by_name(one.name)
    enabled = all(found.enabled for found in existing)
    wanted = AutomationCore(
        name=one.name,
        description="Made by spillway automations, which overwrites changes.",
        enabled=enabled,
        tags=[TAG],
        trigger=EventTrigger(
            expect={one.event},
            match=ResourceSpecification({"prefect.resource.id": one.resources}),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[SendNotification(block_document_id=block_id, subject=one.subject, body=one.body)],
    )
    if not existing:
        client.create_automation(wanted)
        return "created"
    client.update_automation(existing[0].id, wanted)
    return "updated" if enabled else "updated, disabled"
