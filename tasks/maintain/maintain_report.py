"""The report of a maintain run: as JSON, as text, and as a Prefect artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from prefect.events import emit_event

from infra.display import markdown
from tasks.base.artifacts import publish
from tasks.base.step import step
from tasks.maintain.chunk_states import ChunkState, format_chunk_count
from tasks.maintain.jobs import format_age
from tasks.maintain.judge import CheckResult
from tasks.maintain.retention import DroppedChunk
from tasks.table.chunks import Chunk

VIOLATION_EVENT = "spillway.maintain.violation"
_MOST_ROWS = 100  # of the table of chunks: the oldest and the newest, half each


@dataclass(frozen=True)
class MaintainOutcome:
    """What a run changed, or in a dry run would change.

    `changes`: of the server's settings, in words. `deferred`: errors that the next run may not meet, such as a chunk in
    use. `failed`: errors of all other steps.
    """

    dry_run: bool
    changes: tuple[str, ...] = ()
    compressed_again: tuple[Chunk, ...] = ()
    archived: tuple[Chunk, ...] = ()
    dropped: tuple[DroppedChunk, ...] = ()
    deferred: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def violations(done: MaintainOutcome, found: CheckResult) -> list[str]:
    """The errors and violations that make the run fail."""
    return [*done.failed, *found.violations]


def result(done: MaintainOutcome, found: CheckResult) -> dict[str, Any]:
    """The report as the flow returns it and `--json` prints it."""
    return {
        "ok": not violations(done, found),
        "dry_run": done.dry_run,
        "edition": "Community" if found.community else "Apache",
        "changes": list(done.changes),
        "compressed_again": [chunk.table for chunk in done.compressed_again],
        "archived": [chunk.table for chunk in done.archived],
        "dropped": [
            {"chunk": one.chunk.table, "start": one.chunk.range_start, "end": one.chunk.range_end}
            | {"rows": one.rows, "bytes": one.bytes}
            for one in _dropped(done, found)
        ],
        "compression": _compression(found),
        "retention": {
            "keep_seconds": found.keep.total_seconds() if found.keep else None,
            "horizon": found.horizon,
            "dropping_after_seconds": found.dropping_after.total_seconds() if found.dropping_after else None,
            "oldest": found.oldest,
            "overdue": list(found.overdue),
            "job": str(found.retention_job) if found.retention_job else None,
            "next_run": asdict(found.next_drop) if found.next_drop else None,
        },
        "row_audit": asdict(found.row_audit) | {"missing": found.row_audit.missing},
        "slowest_load_seconds": found.slowest_load,
        "summary": summary_lines(done, found),
        "chunks": [_chunk(state, after, found) for state, after in zip(found.chunks, found.next, strict=True)],
        "warnings": [*done.deferred, *found.warnings],
        "violations": violations(done, found),
    }


def _dropped(done: MaintainOutcome, found: CheckResult) -> tuple[DroppedChunk, ...]:
    """The dropped chunks. In a dry run they still exist, and the check has counted their rows."""
    if not done.dry_run:
        return done.dropped
    rows = {state.chunk: state.rows for state in found.chunks}
    return tuple(replace(one, rows=rows.get(one.chunk, one.rows)) for one in done.dropped)


def _compression(found: CheckResult) -> dict[str, Any]:
    compressed = [state for state in found.chunks if state.bytes_as_rows]
    return {
        "layout": str(found.compression.layout) if found.compression.layout else None,
        "jobs": [str(job) for job in found.compression.jobs],
        "chunks": len(found.chunks),
        "compressed": sum(state.state == "compressed" for state in found.chunks),
        "partial": sum(state.state == "partial" for state in found.chunks),
        "bytes_as_rows": sum(state.bytes_as_rows or 0 for state in compressed),
        "bytes": sum(state.bytes for state in compressed),
        "ratio": _rounded(found.ratio),
    }


def _chunk(state: ChunkState, after: str, found: CheckResult) -> dict[str, Any]:
    chunk = state.chunk
    return {
        "chunk": chunk.table,
        "start": chunk.range_start,
        "end": chunk.range_end,
        "age_days": round((found.now - chunk.range_end).total_seconds() / 86400, 1),
        "rows": state.rows,
        "exact": state.exact,
        "bytes": state.bytes,
        "bytes_as_rows": state.bytes_as_rows,
        "ratio": _rounded(state.ratio),
        "state": state.state,
        "next": after,
    }


def chunk_row(chunk: dict[str, Any]) -> dict[str, str]:
    """One of the `chunks` of `result` as a row of text."""
    return {
        "chunk": chunk["chunk"].strip("_"),
        "from": f"{chunk['start']:%Y-%m-%d}",
        "to": f"{chunk['end']:%Y-%m-%d}",
        "age": f"{chunk['age_days']:,.0f} days" if chunk["age_days"] >= 0 else "current",
        "rows": f"{'' if chunk['exact'] else '~'}{chunk['rows']:,}",
        "size": size(chunk["bytes"]),
        "state": chunk["state"] + (f", {chunk['ratio']:.1f} × smaller" if chunk["ratio"] else ""),
        "next": chunk["next"],
    }


def size(count: int) -> str:
    """A size in bytes as text: `8 kB`, `1.2 MB`."""
    found = float(count)
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1), ("GB", 1)):
        if found < 1000:
            return f"{found:.{digits}f} {unit}"
        found /= 1000
    return f"{found:,.1f} TB"


def outcome_lines(done: MaintainOutcome) -> list[str]:
    """What was changed, or in a dry run would be, one item a line."""
    would = "would be " if done.dry_run else ""
    lines = [f"{'to do: ' if done.dry_run else ''}{change}" for change in done.changes]
    if done.dropped:
        rows, gone = sum(one.rows for one in done.dropped), sum(one.bytes for one in done.dropped)
        span = f"{done.dropped[0].chunk.range_start:%Y-%m-%d} to {done.dropped[-1].chunk.range_end:%Y-%m-%d}"
        lines.append(f"{format_chunk_count(len(done.dropped))} {would}dropped: {rows:,} rows, {size(gone)}, {span}")
    lines += [f"{format_chunk_count(len(done.archived))} {would}archived"] * bool(done.archived)
    lines += [f"{format_chunk_count(len(done.compressed_again))} {would}compressed again"] * bool(done.compressed_again)
    return lines


def summary_lines(done: MaintainOutcome, found: CheckResult) -> list[str]:
    """The summary above the table of chunks, one item a line."""
    lines = outcome_lines(replace(done, dropped=_dropped(done, found)))
    compression = _compression(found)
    if found.ratio:
        compressed = compression["compressed"] + compression["partial"]
        before, after = size(compression["bytes_as_rows"]), size(compression["bytes"])
        lines.append(
            f"{compressed} of {format_chunk_count(len(found.chunks))} are compressed: {before} became {after},"
            f" {found.ratio:.1f} × smaller"
        )
    lines += [
        f"compression after {format_age(job.after) if job.after else '?'}: {job}" for job in found.compression.jobs
    ]
    if found.slowest_load is not None:
        lines.append(f"slowest load during this run or the last compression job: {found.slowest_load:.2f} s")
    lines.append(_retention(found))
    if found.retention_job is not None and found.dropping_after is not None:
        lines.append(f"the database drops chunks after {format_age(found.dropping_after)}: {found.retention_job}")
    if found.row_audit.checked:
        lines.append(
            f"ledger: {found.row_audit.inserted:,} inserted {_since(found)}, {found.row_audit.rows:,} rows there,"
            f" {found.row_audit.dropped:,} dropped, {found.row_audit.missing:,} missing"
        )
    return lines


def _retention(found: CheckResult) -> str:
    oldest = f"the oldest event is of {found.oldest:%Y-%m-%d %H:%M}" if found.oldest else "there are no events"
    if found.horizon is None or found.next_drop is None:
        return f"nothing is ever dropped (SPILLWAY_KEEP is empty); {oldest}"
    coming = found.next_drop
    what = "nothing"
    if coming.chunks:
        what = f"{format_chunk_count(coming.chunks)}, {coming.rows:,} rows, {size(coming.bytes)}"
        what += f", {coming.start:%Y-%m-%d} to {coming.end:%Y-%m-%d}"
    return (
        f"kept since {found.horizon:%Y-%m-%d %H:%M}; {oldest}; the run of {coming.at:%Y-%m-%d %H:%M} will drop {what}"
    )


def _since(found: CheckResult) -> str:
    return f"from {found.row_audit.since:%Y-%m-%d %H:%M} on" if found.row_audit.since else "in all"


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 2)


@step("report")
def report_maintenance(done: MaintainOutcome, found: CheckResult) -> None:
    """Publish the table artifact `maintain`, and every violation as a Prefect event."""
    lines = [f"- **error: {markdown(text)}**" for text in violations(done, found)]
    lines += [f"- warning: {markdown(text)}" for text in (*done.deferred, *found.warnings)]
    lines += [f"- {markdown(line)}" for line in summary_lines(done, found)]
    rows = [chunk_row(chunk) for chunk in result(done, found)["chunks"]]
    if len(rows) > _MOST_ROWS:
        lines.append(f"- of {len(rows)} chunks the oldest and the newest {_MOST_ROWS // 2} are shown")
        rows = [*rows[: _MOST_ROWS // 2], *rows[-_MOST_ROWS // 2 :]]
    errors, warnings = len(violations(done, found)), len(done.deferred) + len(found.warnings)
    verdict = f"**errors: {errors}**, warnings: {warnings}" if errors or warnings else "all is well"
    heading = f"a dry run, nothing was changed; {verdict}" if done.dry_run else verdict
    publish("maintain", rows, f"{heading}\n\n" + "\n".join(lines))
    _emit(violations(done, found))


def _emit(problems: Sequence[str]) -> None:
    for problem in problems:
        emit_event(
            event=VIOLATION_EVENT,
            resource={"prefect.resource.id": "spillway.table.events", "prefect.resource.name": "events"},
            payload={"violation": problem},
        )
