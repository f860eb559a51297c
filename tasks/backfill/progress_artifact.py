"""How far a backfill is, as a Prefect progress artifact."""

from __future__ import annotations

import time
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from infra.errors.redact import one_line

_EVERY_SECONDS = 5.0


class ProgressArtifact:
    """The artifact `backfill-progress`. Where it cannot be written, the run goes on without it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = self._told = time.monotonic()
        self._id: UUID | None = None

    def advance(self, rows: int) -> None:
        """So many more rows are committed."""
        self._done += rows
        if time.monotonic() - self._told >= _EVERY_SECONDS:
            self._tell()

    def finish(self) -> None:
        """Say how far it came, where anything was ever said: a short run needs no progress."""
        if self._id is not None:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        percent = min(100.0, 100 * self._done / max(1, self._total))
        rate = self._done / max(1e-6, self._told - self._began)
        left = (self._total - self._done) / max(1e-6, rate)
        text = f"{self._done:,} of {self._total:,} rows, {rate:,.0f}/s, about {left:,.0f} s left"
        try:
            if self._id is None:
                found = create_progress_artifact(percent, key="backfill-progress", description=text)
                self._id = found if isinstance(found, UUID) else None
            else:
                update_progress_artifact(self._id, percent, description=text)
        except (httpx.HTTPError, PrefectException) as error:
            get_run_logger().warning("the progress is not published: %s", one_line(error))
