"""Wait for a load and record its outcome in the stream or file that it belongs to."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.progress import Advanced, emit
from tasks.columns.batch import Batch
from tasks.table.load import LoadResult, check_bad_share


class LoadTarget(Protocol):
    """A stream or file. `overtaken`: another run has loaded a part of it. `error`: its first error."""

    loaded: list[LoadResult]
    overtaken: bool
    error: str | None


def collect_load(
    future: Future[LoadResult | None],
    batch: Batch,
    target: LoadTarget,
    name: str,
    max_bad_share: float | None = None,
) -> LoadResult | None:
    """Wait for a load. Returns None if it failed, or if another run loaded the range first.

    `name`: the progress bar that it advances. `max_bad_share`: the share of the range in quarantine above which the
    load counts as failed; None if the caller judges several loads together.
    """
    loaded: LoadResult | None = None
    try:
        loaded = future.result()
        if loaded is None:
            target.overtaken = True
        else:
            target.loaded.append(loaded)
            emit(Advanced(name, loaded.read))
            if max_bad_share is not None:
                check_bad_share(batch, loaded, max_bad_share)
    except SpillwayError as error:
        target.error = target.error or one_line(error)
        loaded = None
    return loaded
