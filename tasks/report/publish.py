"""The pictures of a report as a Prefect artifact."""

from __future__ import annotations

from datetime import timedelta

from infra.connections.clients import Clients
from infra.display import markdown
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.artifacts import publish_markdown
from tasks.base.run_log import run_logger
from tasks.base.step import step
from tasks.report.frames import Frames, read_frames
from tasks.report.page import pictures
from tasks.report.svg import as_data_url

_SPAN = timedelta(days=1)  # the flow that publishes it runs daily


@step("pictures", retries=0)
def publish_pictures(clients: Clients) -> None:
    """Publish the pictures of the last day as the Prefect artifact `report`. A failure is only logged: a role that may
    reconcile need not have the right to read everything that they show."""
    try:
        publish_markdown("report", as_markdown(read_frames(clients, _SPAN)))
    except SpillwayError as error:
        run_logger().warning("the pictures of the report could not be made: %s", one_line(error))


def as_markdown(frames: Frames) -> str:
    """What needs attention, and the charts as pictures."""
    lines = [f"- {markdown(item)}" for item in frames.attention] or ["Nothing needs attention."]
    for picture in pictures(frames):
        lines += ["", f"## {markdown(picture.title)}", "", f"![chart]({as_data_url(picture.svg)})", "", picture.note]
    return "\n".join(lines) + "\n"
