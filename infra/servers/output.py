"""What the server commands say: progress goes to standard error, so that results can be piped."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from infra.display import printable

_progress = Console(stderr=True, soft_wrap=True, highlight=False)
_results = Console(soft_wrap=True, highlight=False)


def progress(text: str) -> None:
    """Tell the person who waits what goes on, on standard error."""
    _progress.print(f"[dim]{escape(printable(text))}[/dim]")


def warn(text: str) -> None:
    """Warn of what cannot be undone, on standard error."""
    _progress.print(f"[yellow]WARNING:[/yellow] {escape(printable(text))}")


def result(text: str) -> None:
    """Print a line of the result on standard output, as it is."""
    _results.print(escape(printable(text)))
