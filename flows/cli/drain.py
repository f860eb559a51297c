"""A drain as a person in a terminal sees it: a live bar, then the books."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from flows.cli.prefect_api import demand_prefect, run_flow
from flows.drain import drain
from infra.display import display_name, printable
from tasks.base.progress import Advanced, ProgressEvent, Retry, Started, subscribe


class Bars:
    """One bar a stream or file, moved by the news of the flow."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.progress = Progress(*columns, *times, console=console, transient=True)
        self._console = console
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, news: ProgressEvent) -> None:
        match news:
            case Started(stream, entries):
                self._tasks[stream] = self.progress.add_task(escape(display_name(stream)), total=entries, rate="")
            case Advanced(stream, entries):
                self.progress.advance(self._tasks[stream], entries)
                speed = self.progress.tasks[self._tasks[stream]].speed
                self.progress.update(self._tasks[stream], rate=f"{speed:,.0f}/s" if speed else "")
            case Retry(reason, attempt, attempts):
                self._console.print(f"[yellow]trying again ({attempt} of {attempts}):[/yellow] ", end="")
                self._console.print(printable(reason), markup=False, highlight=False, soft_wrap=True)


def drain_in_terminal(streams: list[str], max_events: int | None, until: str | None, as_json: bool) -> None:
    """Run the drain flow in this process and print its books, also if it was not successful.

    Raises `SpillwayError` for what the flow raises, `Terminal` for a Prefect server that does not answer.
    """
    console = Console(stderr=True)
    bars = Bars(console)
    demand_prefect()
    with subscribe(bars), bars.progress if console.is_terminal else nullcontext():
        result, error = run_flow(lambda: drain(streams if len(streams) > 1 else streams[0], max_events, until))
    for warning in result["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {escape(printable(warning))}", highlight=False, soft_wrap=True)
    if as_json:
        print(orjson.dumps({k: v for k, v in result.items() if k not in ("streams", "warnings", "losses")}).decode())
    else:
        _print_books(result)
    if error is not None:
        raise error


def _print_books(result: dict[str, Any]) -> None:
    if not result["streams"]:
        Console().print("no stream matches: nothing to drain")
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("stream", no_wrap=True)
    for name in _NUMBERS:
        table.add_column(name.replace("events_per_second", "events/s"), justify="right", no_wrap=True)
    for books in result["streams"]:
        table.add_row(Text(display_name(books["stream"])), *(f"{books[name]:,}" for name in _NUMBERS))
    if len(result["streams"]) > 1:
        table.add_section()
        table.add_row("all", *(f"{result[name]:,}" for name in _NUMBERS))
    # Into a pipe or a file, whole rows: there is no width to keep to.
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


_NUMBERS = ("read", "inserted", "duplicates", "quarantined", "lost", "events_per_second", "lag")
