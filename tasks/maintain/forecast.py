"""What happens next to each chunk, and what the next run will drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.mapping.table_options import Retention
from tasks.maintain.chunk_states import ChunkState
from tasks.maintain.compression import DesiredPolicy
from tasks.maintain.jobs import Job
from tasks.maintain.recompression import why_not_compressed
from tasks.maintain.retention import expired_chunks

_BETWEEN_RUNS = timedelta(days=1)  # of the deployment maintain/daily


@dataclass(frozen=True)
class Policies:
    """Everything that decides what happens to a chunk: the settings, and the database's own jobs."""

    compress: DesiredPolicy | None
    compression_jobs: tuple[Job, ...]
    keep: timedelta | None
    way: Retention
    retention_jobs: tuple[Job, ...]
    archive_after: timedelta | None = None


@dataclass(frozen=True)
class NextDrop:
    """What the next run, at `at`, will drop: chunks from `start` to before `end`. `rows` may be an estimate."""

    at: datetime
    chunks: int
    rows: int
    bytes: int
    start: datetime | None
    end: datetime | None


def what_next(state: ChunkState, policies: Policies, now: datetime) -> str:
    """In words: what happens next to this chunk, and when, or why not yet."""
    end = state.chunk.range_end
    if policies.keep is not None and end <= now - policies.keep:
        return f"drop: {_dropper(policies)}"
    wanted = policies.compress
    if wanted is not None and (why := why_not_compressed(state, policies.compression_jobs, wanted, now)):
        # Without the job's error message, which is above the table: it would make every row as wide.
        return f"{'compress again' if state.state == 'partial' else 'compress'}: {why.split(': ')[0]}"
    coming = []
    if wanted is not None and state.state == "rows":
        coming.append((end + wanted.after, "compress"))
    if policies.archive_after is not None and end + policies.archive_after > now:
        coming.append((end + policies.archive_after, "archive"))
    if policies.keep is not None:
        coming.append((end + policies.keep, "drop"))
    if not coming:
        return "stays"
    moment, what = min(coming)
    return f"{what} from {moment:%Y-%m-%d} on"


def _dropper(policies: Policies) -> str:
    if policies.way == "policy":
        job = next(iter(policies.retention_jobs), None)
        return str(job).split(": ")[0] if job and job.failed else "the database's own job"
    return "the next run, after its archive" if policies.way == "archive" else "the next run"


def next_drop(states: Sequence[ChunkState], policies: Policies, now: datetime, dry_run: bool) -> NextDrop | None:
    """What the next run of the flow or of the database's job will drop; None if nothing is ever dropped."""
    if policies.keep is None:
        return None
    at = now if dry_run else now + _BETWEEN_RUNS
    if policies.way == "policy":
        at = max((job.next_start for job in policies.retention_jobs if job.next_start), default=now)
    chosen = expired_chunks(states, policies.keep, at)
    return NextDrop(
        at,
        len(chosen),
        sum(state.rows for state in chosen),
        sum(state.bytes for state in chosen),
        min((state.chunk.range_start for state in chosen), default=None),
        max((state.chunk.range_end for state in chosen), default=None),
    )
