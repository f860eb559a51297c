"""The report of a maintain run about one table: as JSON and as text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from infra.display import count_of
from tasks.maintain.chunk_states import ChunkState, format_chunk_count
from tasks.maintain.jobs import format_age
from tasks.maintain.judge import NEEDS_COMMUNITY, CheckResult
from tasks.maintain.maintained_table import MaintainedTable
from tasks.maintain.retention import DroppedChunk
from tasks.table.chunks import Chunk, has_chunks


@dataclass(frozen=True)
class MaintainOutcome:
    """What a run changed in a table, or in a dry run would change.

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


@dataclass(frozen=True)
class TableReport:
    """What a run did to a table, and what its check found; None if the check failed, which `done.failed` says."""

    table: MaintainedTable
    done: MaintainOutcome
    found: CheckResult | None

    @property
    def violations(self) -> list[str]:
        """The errors and violations that make the run fail."""
        return [*self.done.failed, *(self._named(text) for text in (self.found.violations if self.found else ()))]

    @property
    def warnings(self) -> list[str]:
        """What does not make the run fail."""
        return [*self.done.deferred, *(self._named(text) for text in (self.found.warnings if self.found else ()))]

    @property
    def summary(self) -> list[str]:
        """The summary above the table of chunks, one item a line."""
        return outcome_lines(self.done) if self.found is None else summary_lines(self.done, self.found)

    def _named(self, text: str) -> str:
        return text if text == NEEDS_COMMUNITY else f"{self.table.prefix}{text}"


def table_result(report: TableReport) -> dict[str, Any]:
    """The report of a table as JSON."""
    done, found = report.done, report.found
    return {
        "table": report.table.table.display_name,
        "kind": report.table.table.kind.value,
        "changes": list(done.changes),
        "compressed_again": [chunk.table for chunk in done.compressed_again],
        "archived": [chunk.table for chunk in done.archived],
        "dropped": [
            {"chunk": one.chunk.table, "start": one.chunk.range_start, "end": one.chunk.range_end}
            | {"rows": one.rows, "bytes": one.bytes}
            for one in (done.dropped if found is None else _dropped(done, found))
        ],
        **({} if found is None else _checked(found)),
        "summary": report.summary,
        "warnings": report.warnings,
        "violations": report.violations,
    }


def _checked(found: CheckResult) -> dict[str, Any]:
    return {
        "rows": found.rows,
        "bytes": found.bytes,
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
        "chunks": [_chunk(state, after, found) for state, after in zip(found.chunks, found.next, strict=True)],
    }


def table_row(table: dict[str, Any]) -> dict[str, str]:
    """The result of a table as a row of text."""
    if "row_audit" not in table:
        return {"table": table["table"], "kind": table["kind"], "missing": "not checked"}
    audit, compression, oldest = table["row_audit"], table["compression"], table["retention"]["oldest"]
    exact = all(chunk["exact"] for chunk in table["chunks"])
    rows = "?" if table["rows"] is None else f"{'' if exact else '~'}{table['rows']:,}"
    return {
        "table": table["table"],
        "kind": table["kind"],
        "rows": rows,
        "size": size(table["bytes"]),
        "chunks": f"{compression['chunks']:,}",
        "compressed": f"{compression['compressed'] + compression['partial']:,}",
        "oldest": f"{oldest:%Y-%m-%d}" if oldest else "",
        "missing": f"{audit['missing']:,}" if audit["checked"] else "not checked",
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
        "chunk": chunk["chunk"],
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
        what = f"{count_of(rows, 'row')}, {size(gone)}, {span}"
        lines.append(f"{format_chunk_count(len(done.dropped))} {would}dropped: {what}")
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
        audit = found.row_audit
        redriven = f" {audit.redriven:,} added by redrives," if audit.redriven else ""
        lines.append(
            f"ledger: {audit.inserted:,} inserted {_since(found)},{redriven} {audit.rows:,} rows there,"
            f" {audit.dropped:,} dropped, {audit.missing:,} missing"
        )
    return lines


def _retention(found: CheckResult) -> str:
    what = "event" if found.table.is_events else "row"
    oldest = f"the oldest {what} is of {found.oldest:%Y-%m-%d %H:%M}" if found.oldest else f"there are no {what}s"
    if not has_chunks(found.table.table):
        needed = "TimescaleDB" if found.edition is None else "a hypertable with a time"
        return f"{found.table.table.kind.value}: compression, retention and archives need {needed}"
    if found.horizon is None or found.next_drop is None:
        if found.retention_job is not None and not found.table.is_events:
            return f"Spillway drops nothing; {oldest}"
        return f"nothing is ever dropped ({found.table.options.source('keep')} is empty); {oldest}"
    coming = found.next_drop
    what = "nothing"
    if coming.chunks:
        what = f"{format_chunk_count(coming.chunks)}, {count_of(coming.rows, 'row')}, {size(coming.bytes)}"
        what += f", {coming.start:%Y-%m-%d} to {coming.end:%Y-%m-%d}"
    return (
        f"kept since {found.horizon:%Y-%m-%d %H:%M}; {oldest}; the run of {coming.at:%Y-%m-%d %H:%M} will drop {what}"
    )


def _since(found: CheckResult) -> str:
    return f"from {found.row_audit.since:%Y-%m-%d %H:%M} on" if found.row_audit.since else "in all"


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 2)
