"""Show the progress of a producer: a bar if standard error is a terminal, and a summary line at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.display import count_of, display_name
from infra.json_lines import json_lines


class Meter:
    """Counts sent entries. Calls `advanced` with the total after every batch."""

    def __init__(self, advanced: Callable[[int], None]) -> None:
        self.sent = 0
        self._advanced = advanced
        self._started = time.monotonic()

    def __call__(self, sent: int) -> None:
        """Add `sent` confirmed entries."""
        self.sent += sent
        self._advanced(self.sent)

    def summary(self, stream: str) -> str:
        """One line with the number of entries, the stream, the duration in seconds and the rate."""
        seconds = time.monotonic() - self._started
        rate = self.sent / max(seconds, 1e-9)
        sent = count_of(self.sent, "entry", "entries")
        return f"{sent} to {display_name(stream)} in {seconds:.2f} s ({rate:,.0f} entries/s)"


@contextmanager
def meter(stream: str, total: int | None, done: Callable[[], int] | None = None) -> Iterator[Meter]:
    """A `Meter` with a progress bar. `total`: in entries, or in the unit of `done`; None if unknown."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),  # a stream may be called [red]
        BarColumn(),
        TextColumn("{task.fields[sent]:,} entries"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=json_lines() or not console.is_terminal,
    )
    task = bar.add_task(display_name(stream), total=total, sent=0)

    def advanced(sent: int) -> None:
        bar.update(task, completed=done() if done else sent, sent=sent)

    with bar:
        yield Meter(advanced)
