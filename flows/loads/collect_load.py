"""What became of a load, put down in what it was a part of."""

from __future__ import annotations

from typing import Protocol

from prefect.futures import PrefectFuture

from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.progress import Advanced, emit
from tasks.columns.batch import Batch
from tasks.table.load import LoadResult, check_bad_share


class LoadTarget(Protocol):
    """`overtaken`: another run has drained a part of it. `error`: the first thing that went wrong."""

    loaded: list[LoadResult]
    overtaken: bool
    error: str | None


def collect_load(
    future: PrefectFuture[LoadResult | None],
    batch: Batch,
    part_of: LoadTarget,
    name: str,
    max_bad_share: float | None = None,
) -> LoadResult | None:
    """Wait for a load; None where it failed, or another run was first. `name`: of the progress that it is a part of.

    `max_bad_share`: the share of the range in quarantine beyond which the load is an error; None where it is not judged
    by itself.
    """
    try:
        loaded = future.result()
        if loaded is None:
            part_of.overtaken = True
        else:
            part_of.loaded.append(loaded)
            emit(Advanced(name, loaded.read))
            if max_bad_share is not None:
                check_bad_share(batch, loaded, max_bad_share)
        return loaded
    except SpillwayError as error:
        part_of.error = part_of.error or one_line(error)
        return None
    finally:
        batch.release()
