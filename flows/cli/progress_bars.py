"""Progress of a flow in a terminal: one bar for each stream or file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
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

from infra.display import display_name
from infra.json_lines import json_lines
from infra.output import labelled
from tasks.base.progress import Advanced, ProgressEvent, Retry, Started, Stopping, answer_with, subscribe


class ProgressBars:
    """Follows a flow that runs in this process. Without a terminal, only retries are reported."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        times = (TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn())
        self._interactive = console.is_terminal and not json_lines()
        self._progress = Progress(*columns, *times, console=console, transient=True, disable=not self._interactive)
        self._console = console
        self._tasks: dict[str, TaskID] = {}

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Follow the flow that runs in the block, and answer its questions."""
        with subscribe(self._on_event), answer_with(self._confirm), self._progress:
            yield

    def _on_event(self, event: ProgressEvent) -> None:
        match event:
            case Started(stream, entries):
                self._tasks[stream] = self._progress.add_task(escape(display_name(stream)), total=entries, rate="")
            case Advanced(stream, entries):
                self._progress.advance(self._tasks[stream], entries)
                speed = self._progress.tasks[self._tasks[stream]].speed
                self._progress.update(self._tasks[stream], rate=f"{speed:,.0f}/s" if speed else "")
            case Retry(reason, attempt, attempts):
                labelled(f"trying again ({attempt} of {attempts})", reason, "yellow", self._console)
            case Stopping(seconds):
                waiting = f"what is being loaded has {seconds:g} s to end; the rest stays where it is"
                labelled("stopping", waiting, "yellow", self._console)

    def _confirm(self, question: str) -> bool:
        """Ask at the terminal. Returns False if there is none."""
        if not self._interactive:
            return False
        self._progress.stop()
        try:
            return typer.confirm(question, err=True)
        finally:
            self._progress.start()
