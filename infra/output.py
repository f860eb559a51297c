"""What commands print: results on standard output; progress, warnings and errors on standard error.

Everything printed is escaped first: names and reasons come from outside and may hold control characters or markup.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.display import printable, printable_json
from infra.json_lines import json_lines, write_line

Color = Literal["red", "yellow", "dim"]

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}
_WIDE = 300  # columns of a table that goes into a pipe or a file: rows are not wrapped there
_errors = Console(stderr=True, soft_wrap=True, highlight=False)
RESULTS = Console(soft_wrap=True, highlight=False)  # standard output


def result(text: str) -> None:
    """Print a line of the result."""
    RESULTS.print(Text(printable(text)))


def print_json(value: Any, indent: bool = False) -> None:
    """Print a value as JSON: on one line, or with `indent` for people."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    print(printable_json(text), flush=True)


def progress(text: str) -> None:
    """Report progress to a waiting user."""
    if json_lines():
        write_line(logging.INFO, printable(text))
        return
    _errors.print(Text(printable(text), style="dim"))


def announce(text: str) -> None:
    """Say what a process that keeps running does: on standard output, or as a log line if these are JSON."""
    (progress if json_lines() else result)(text)


def warn(text: str) -> None:
    """Print a warning."""
    labelled("warning", text, "yellow")


def error(text: str) -> None:
    """Print an error."""
    labelled("error", text, "red")


def labelled(label: str, text: str, color: Color, console: Console | None = None) -> None:
    """Print a text after a colored label, such as `attention: …`. Standard error, unless `console` is given.

    If log lines are JSON, it is one of them: a label that is not a level becomes part of the message.
    """
    if console is not RESULTS and json_lines():
        level = _LEVELS.get(label, logging.WARNING)
        write_line(level, printable(text if label in _LEVELS else f"{label}: {text}"))
        return
    line = Text.assemble((f"{label}:", color), " ", printable(text))
    (console or _errors).print(line, soft_wrap=True, highlight=False)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    total: Sequence[object] | None = None,
    whole: Container[str] = (),
    right: Container[str] = (),
    rule: bool = True,
) -> None:
    """Print a table: as wide as the terminal, and unwrapped in a pipe or a file.

    Numbers get thousands separators. Columns of numbers, and those in `right`, are aligned to the right and never
    wrapped, like those in `whole`. `total`: a last row, set off from the others. `rule`: a line below the names.
    """
    body = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD if rule else None, pad_edge=rule)
    for at, name in enumerate(columns):
        number = name in right or (bool(body) and all(_is_number(row[at]) for row in body))
        table.add_column(
            Text(name), justify="right" if number else "left", no_wrap=number or name in whole, overflow="fold"
        )
    for row in body:
        table.add_row(*map(_cell, row))
    if total is not None:
        table.add_section()
        table.add_row(*map(_cell, total))
    Console(width=None if RESULTS.is_terminal else _WIDE, highlight=False).print(table)


def moment(time: datetime | None) -> str:
    """A time for people: in the zone of their machine, to the second; empty for None."""
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell(value: object) -> Text:
    if value is None:
        return Text("")
    return Text(f"{value:,}" if _is_number(value) else printable(str(value)))
