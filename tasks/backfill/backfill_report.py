"""The result of a backfill or of its plan: as JSON, as text, and as a Prefect artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from infra.display import markdown
from tasks.backfill.backfill_plan import BackfillPlan
from tasks.backfill.source import SourceResult
from tasks.base.artifacts import publish
from tasks.base.step import step
from tasks.table.causes import exceeds_bad_share, format_causes

_COUNTS = ("read", "inserted", "duplicates", "quarantined")


def quarantine_causes(results: Sequence[SourceResult]) -> Counter[str]:
    """The causes for which rows went to quarantine, with the number of rows."""
    return sum((Counter(loaded.causes) for one in results for loaded in one.loaded), Counter())


def too_many_bad(results: Sequence[SourceResult], share: float) -> list[str]:
    """An error if more than `share` of the rows of all sources went to quarantine; otherwise empty.

    If a run stops for this reason, rows that it did not load count as good.
    """
    bad = sum(loaded.quarantined for one in results for loaded in one.loaded)
    read = sum(loaded.read for one in results for loaded in one.loaded)
    remaining = sum(one.source.remaining for one in results)
    if not exceeds_bad_share(bad, remaining, share):
        return []
    names = {one.source.ledger_name for one in results if any(loaded.quarantined for loaded in one.loaded)}
    of = f" --stream {next(iter(names))}" if len(names) == 1 else ""
    rest = (
        f"{remaining - read:,} rows were not loaded: run the same backfill again for them"
        if read < remaining
        else "everything else is loaded"
    )
    return [
        f"backfill: {bad} of {remaining} rows went to quarantine, expected at most {share:.0%}"
        f" (SPILLWAY_MAX_BAD_SHARE): {format_causes(quarantine_causes(results))}; all are kept; {rest};"
        f" list the bad rows (spillway quarantine list{of}), fix the cause, then replay them (spillway quarantine"
        f" redrive{of})"
    ]


def result(
    plan: BackfillPlan, results: Sequence[SourceResult], warnings: list[str], dry_run: bool, seconds: float
) -> dict[str, Any]:
    """The result of the flow: totals, and the same counts for each source.

    `rows` in a source, of which `remaining` were not loaded at the start; read = inserted + duplicates + quarantined.
    `causes`: see `quarantine_causes`. `seconds`: of the whole run.
    """
    sources = [_source(one) for one in results]
    totals: dict[str, Any] = {name: sum(source[name] for source in sources) for name in _COUNTS}
    days = {"first_day": plan.first_day, "last_day": plan.last_day}
    return {
        **totals,
        "rows": plan.rows,
        "remaining": plan.remaining,
        "expired": plan.expired,
        **{name: day and day.date().isoformat() for name, day in days.items()},
        "chunks": {
            "rows": plan.chunk_counts.rows,
            "compressed": plan.chunk_counts.compressed,
            "new": plan.chunk_counts.new,
        },
        "estimated_seconds": None if plan.seconds is None else round(plan.seconds, 1),
        "compressed": plan.compressed,
        "seconds": round(seconds, 3),
        "events_per_second": round(totals["read"] / seconds) if seconds else 0,
        "dry_run": dry_run,
        "causes": dict(quarantine_causes(results).most_common()),
        "warnings": warnings,
        "sources": sources,
    }


def _source(one: SourceResult) -> dict[str, Any]:
    source = one.source
    counts = {name: sum(getattr(loaded, name) for loaded in one.loaded) for name in _COUNTS}
    return {
        "source": source.display_name,
        "ledger_name": source.ledger_name,
        "state": source.state,
        "rows": source.rows,
        "remaining": source.remaining,
        "expired": source.expired,
        **counts,
        "error": one.error,
    }


def summary_lines(done: dict[str, Any]) -> list[str]:
    """The plan and the outcome as lines of text."""
    chunks = done["chunks"]
    lines = [f"{done['rows']:,} rows, {done['remaining']:,} of them left to load"]
    if done["first_day"]:
        lines[0] += f", from {done['first_day']} to {done['last_day']}"
    lines.append(
        f"chunks touched: {chunks['rows']} kept as rows, {chunks['compressed']} compressed, {chunks['new']} new"
    )
    if done["expired"]:
        lines.append(f"{done['expired']:,} rows are past the retention horizon")
    if done["causes"]:
        lines.append(f"{done['quarantined']:,} rows wait in quarantine: {format_causes(done['causes'])}")
    if done["dry_run"]:
        estimate = done["estimated_seconds"]
        took = (
            "nothing to load" if not done["remaining"] else "no sample" if estimate is None else f"about {estimate:,} s"
        )
        lines.append(f"estimated from a sample: {took}; a dry run: nothing was loaded")
    elif done["compressed"]:
        lines.append(f"chunks compressed: {done['compressed']}")
    return lines


@step("report")
def report_backfill(done: dict[str, Any]) -> None:
    """Publish the table artifact `backfill`."""
    names = ("source", "state", "rows", "remaining", *_COUNTS)
    rows = [{name: source[name] for name in names} | _error(source) for source in done["sources"]]
    notes = [f"- {markdown(line)}" for line in summary_lines(done)]
    notes += [f"- {done['events_per_second']:,} events/s from start to end"] if done["read"] else []
    notes += [f"- warning: {markdown(text)}" for text in done["warnings"]]
    publish("backfill", rows, "read = inserted + duplicates + quarantined\n\n" + "\n".join(notes))


def _error(source: dict[str, Any]) -> dict[str, str]:
    return {"error": source["error"]} if source["error"] else {}
