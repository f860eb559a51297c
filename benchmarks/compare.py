"""Two results of `make bench` side by side:  python -m benchmarks.compare OLD.json NEW.json"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table


def main(old: Annotated[Path, typer.Argument(exists=True)], new: Annotated[Path, typer.Argument(exists=True)]) -> None:
    """Print each claim of both."""
    results = [orjson.loads(path.read_bytes()) for path in (old, new)]
    console = Console(width=120, highlight=False)
    for path, result in zip((old, new), results, strict=True):
        console.print(f"{path}: {result['machine']}, {result['when']}, {result['events']:,} events")
    before, after = ({claim["what"]: claim for claim in result["claims"]} for result in results)
    table = Table("claim", "bar", "old", "new", "new ÷ old")
    for what in dict.fromkeys([*before, *after]):
        a, b = before.get(what), after.get(what)
        known: dict[str, Any] = b or a or {}
        change = f"{b['median'] / a['median']:.2f}" if a and b and a["median"] else ""
        medians = [f"{claim['median']:.2f}" if claim else "" for claim in (a, b)]
        table.add_row(what, f"{'≤' if known['at_most'] else '≥'} {known['bar']:g}", *medians, change)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
