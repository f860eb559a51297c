"""The progress of a backfill as a Prefect progress artifact."""

from __future__ import annotations

import time
from uuid import UUID

from infra.errors.redact import one_line
from tasks.base.run_log import in_flow, run_logger

_EVERY_SECONDS = 5.0


class ProgressArtifact:
    """The artifact `backfill-progress`. The run continues if it cannot be published."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = self._published = time.monotonic()
        self._id: UUID | None = None

    def advance(self, rows: int) -> None:
        """Count `rows` more committed rows, and publish the progress every 5 s."""
        self._done += rows
        if time.monotonic() - self._published >= _EVERY_SECONDS:
            self._publish()

    def finish(self) -> None:
        """Publish the final state, if any progress was published: a short run needs none."""
        if self._id is not None:
            self._publish()

    def _publish(self) -> None:
        self._published = time.monotonic()
        if not in_flow():
            return
        import httpx
        from prefect.artifacts import create_progress_artifact, update_progress_artifact
        from prefect.exceptions import PrefectException

        percent = min(100.0, 100 * self._done / max(1, self._total))
        rate = self._done / max(1e-6, self._published - self._began)
        seconds = (self._total - self._done) / max(1e-6, rate)
        text = f"{self._done:,} of {self._total:,} rows, {rate:,.0f}/s, about {seconds:,.0f} s left"
        try:
            if self._id is None:
                found = create_progress_artifact(percent, key="backfill-progress", description=text)
                self._id = found if isinstance(found, UUID) else None
            else:
                update_progress_artifact(self._id, percent, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            run_logger().warning("the progress could not be published: %s", one_line(error))
