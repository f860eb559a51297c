"""`spillway status` on one screen: 80 columns and 24 lines for a few streams. Longer lists end with «and N more»."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from flows.cli.status_look import Status
from flows.cli.stream_status import StreamStatus
from infra.display import display_name
from infra.output import RESULTS, labelled, print_table, result
from infra.servers.commands import print_servers
from tasks.maintain.table_report import size
from tasks.metrics.chunk_figures import ChunkFigures

_MOST_STREAMS = 20  # where there is no screen to fill
_LEAST_STREAMS = 3
_MOST_TABLES = 3
_MOST_PROBLEMS = 4
_MOST_ON_DEMAND = 4
_UNITS = (("days", 86_400), ("h", 3_600), ("min", 60))


def print_status(status: Status, problems: Console | None = None, above: int = 0) -> None:
    """Print the page on standard output, and the problems of servers and schedule on `problems`, or standard error.

    `above`: the lines that the screen shows above it.
    """
    now = datetime.now(UTC)
    print_servers(status.servers)
    result("")
    taken = above + len(status.servers) + 2 + _print_schedule(status.schedule, now)
    # With the empty line before them, or the line that says that there are none.
    taken += 1 + max(1, _height(status.attention) + _height(status.problems))
    tables = _tables(status.chunks)
    shown = tables[: _room_for_tables(taken, min(len(status.streams), _LEAST_STREAMS))]
    if status.streams:
        below = 2 + len(shown) + (len(tables) > len(shown)) if shown else 0
        _print_streams(status.streams, now, _room(taken + 2 + below))
    if shown:
        result("")
        print_table(["table", "chunks", "compressed", "size"], shown, rule=False, right=["size"])
        _print_more(len(tables) - len(shown), "of them, smaller")
    if status.attention or (status.healthy and status.streams):
        result("")
    for text in status.attention[:_MOST_PROBLEMS]:
        labelled("attention", text, "yellow", RESULTS)
    _print_more(len(status.attention) - _MOST_PROBLEMS, "findings: --json lists them")
    if status.healthy and status.streams and not status.attention:
        result("nothing needs attention")
    for text in status.problems[:_MOST_PROBLEMS]:
        labelled("attention", text, "red", problems)
    _print_more(len(status.problems) - _MOST_PROBLEMS, "problems: --json lists them")


def _height(texts: Sequence[str]) -> int:
    """The lines of notes below the tables, with the one about the others."""
    shown = sum(1 + (len(text) + len("attention: ")) // max(RESULTS.width, 1) for text in texts[:_MOST_PROBLEMS])
    return shown + (len(texts) > _MOST_PROBLEMS)


def _room_for_tables(taken: int, streams: int) -> int:
    """How many tables fit on the screen below `streams` streams, each part with its names and «and N more»."""
    if not RESULTS.is_terminal:
        return _MOST_TABLES
    return max(0, min(_MOST_TABLES, RESULTS.height - 1 - taken - (3 + streams) - 3))


def _room(taken: int) -> int:
    """How many streams fit on the screen, with the line about the others; the last line is for the prompt."""
    return max(_LEAST_STREAMS, RESULTS.height - 2 - taken) if RESULTS.is_terminal else _MOST_STREAMS


def _print_more(number: int, what: str) -> None:
    if number > 0:
        result(f"and {number:,} more {what}")


def _print_schedule(schedule: list[dict[str, Any]] | None, now: datetime) -> int:
    """Print it, and return the number of lines."""
    if schedule is None:
        result("schedule: no Prefect server answers (set PREFECT_API_URL to the one that runs the schedule)")
        return 2
    if not schedule:
        result("schedule: nothing is deployed (spillway deploy, or spillway serve)")
        return 1
    unused = [one["name"] for one in schedule if not one["scheduled"] and one["last"] is None and not one["problem"]]
    shown = [one for one in schedule if one["name"] not in unused]
    lines = 0
    if shown:
        columns = ["deployment", "last run", "result", "next run"]
        print_table(
            columns,
            [_deployment_row(one, now) for one in shown],
            rule=False,
            whole=("last run", "result"),
            drop=("last run",),
        )
        lines += len(shown) + 1
    if unused:
        others = f" and {len(unused) - _MOST_ON_DEMAND:,} more" if len(unused) > _MOST_ON_DEMAND else ""
        result(f"without a schedule: {', '.join(map(display_name, unused[:_MOST_ON_DEMAND]))}{others}")
        lines += 1
    return lines


def _deployment_row(deployment: dict[str, Any], now: datetime) -> list[object]:
    last = deployment["last"]
    due = deployment["next_due"]
    next_run = (f"in {_span(due, now)}" if due else "none planned") if deployment["scheduled"] else "on demand"
    if deployment["paused"]:
        next_run = "paused"
    if deployment["every"] is not None:
        next_run = f"every {deployment['every']:g} s, if there is work"
    return [deployment["name"], _ago(last and last["due"], now, ""), last["state"] if last else "", next_run]


def _print_streams(streams: Sequence[StreamStatus], now: datetime, room: int) -> None:
    """The streams; if not all fit, those that are furthest behind."""
    result("")
    shown = list(streams)
    if len(shown) > room:
        shown = sorted(shown, key=lambda one: (one.lag is not None, -(one.lag or 0), one.name))[:room]
    columns = ["stream", "lag", "oldest", "last drained", "in quarantine", "lost"]
    print_table(
        columns,
        [_stream_row(one, now) for one in shown],
        rule=False,
        right=("lag", "oldest", "in quarantine"),
        whole=("last drained",),
        drop=("oldest", "last drained", "in quarantine"),
    )
    others = [one for one in streams if one not in shown]
    behind = sum(one.lag or 0 for one in others)
    _print_more(len(others), f"streams, with a lag of {behind:,} altogether: --json lists them")


def _stream_row(stream: StreamStatus, now: datetime) -> list[object]:
    lag = ("no right" if stream.denied else "not in Redis") if stream.lag is None else stream.lag
    oldest = _seconds(stream.behind_seconds) if stream.lag else ""
    drained = _ago(stream.last_drained, now, "never")
    return [display_name(stream.name), lag, oldest, drained, stream.waiting, stream.lost]


def _tables(chunks: Sequence[ChunkFigures]) -> list[list[object]]:
    """A row for each table, the largest first."""
    found = []
    for schema, table in dict.fromkeys((one.schema, one.table) for one in chunks):
        mine = [one for one in chunks if (one.schema, one.table) == (schema, table)]
        has_chunks = any(one.chunks is not None for one in mine)
        compressed = sum(one.chunks or 0 for one in mine if one.state != "rows")
        counts: list[object] = [sum(one.chunks or 0 for one in mine), compressed] if has_chunks else [None, None]
        found.append((sum(one.bytes for one in mine), [display_name(f"{schema}.{table}"), *counts]))
    return [[*row, size(total)] for total, row in sorted(found, key=lambda one: -one[0])]


def _ago(moment: datetime | None, now: datetime, never: str) -> str:
    return never if moment is None else f"{_span(now, moment)} ago"


def _span(later: datetime, earlier: datetime) -> str:
    return _seconds((later - earlier).total_seconds())


def _seconds(number: float) -> str:
    """Such as `5 s`, `3 min` or `2 days`."""
    for unit, length in _UNITS:
        if number >= 2 * length:
            return f"{number / length:,.0f} {unit}"
    return f"{max(0, number):,.0f} s"
