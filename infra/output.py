"""What commands print: results on standard output; progress, warnings and errors on standard error.

Everything printed is escaped first: names and reasons come from outside and may hold control characters or markup.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from infra.display import printable, printable_json
from infra.json_lines import json_lines, write_line
from infra.output_table import Column, fitting, grid, records

Color = Literal["red", "yellow", "dim"]

_LEVELS = {"warning": logging.WARNING, "error": logging.ERROR}
_WIDE = 300  # columns of a table that goes into a pipe or a file: rows are not wrapped there
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
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
    drop: Sequence[str] = (),
) -> None:
    """Print a table: as wide as the terminal, and unwrapped in a pipe or a file. Nothing is cut.

    Numbers get thousands separators. Columns of numbers, and those in `right`, are aligned to the right and never
    folded, like those in `whole`. `total`: a last row, set off from the others. `rule`: a line below the names.
    `drop`: columns that a narrow terminal does not show, the least important one first. If that is not enough, each row
    is printed as lines of name and value.
    """
    body = [list(row) for row in rows]
    texts = [[_cell(value) for value in row] for row in body]
    numbers = [bool(body) and all(_is_number(row[at]) for row in body) for at in range(len(columns))]
    found = [
        Column(name, name in right or number, name in right or number or name in whole)
        for name, number in zip(columns, numbers, strict=True)
    ]
    last = None if total is None else [_cell(value) for value in total]
    lines = [*texts, last] if last is not None else texts
    console = RESULTS if RESULTS.is_terminal else Console(width=_WIDE, highlight=False)
    kept = list(range(len(columns)))
    if RESULTS.is_terminal:
        kept = fitting(found, lines, console.width - (2 if rule else 0), drop)
    if not kept:
        for line in records(found, lines):
            RESULTS.print(line)
        return
    shown = [[row[at] for at in kept] for row in texts]
    ascii_only = not (console.encoding or "").startswith("utf")
    table = grid([found[at] for at in kept], shown, last and [last[at] for at in kept], rule, ascii_only)
    console.print(table, soft_wrap=False)


@contextmanager
def in_place() -> Iterator[None]:
    """What the block prints replaces what the screen shows. Without a screen, it follows what was printed before."""
    if not RESULTS.is_terminal or RESULTS.is_dumb_terminal:
        yield
        result("")
        return
    with RESULTS.capture() as captured:
        yield
    shown, room = [], RESULTS.height - 1
    for line in captured.get().rstrip("\n").split("\n"):
        room -= 1 + max(0, len(_ESCAPES.sub("", line)) - 1) // RESULTS.width  # the terminal folds a long line
        if room >= 0:
            shown.append(line)
    print("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J", end="", flush=True)


def moment(time: datetime | None) -> str:
    """A time for people: in the zone of their machine, to the second; empty for None."""
    return "" if time is None else f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def moment_now() -> str:
    """The time of this machine, for people."""
    return moment(datetime.now(UTC))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if _is_number(value) else printable(str(value))
