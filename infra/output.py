"""What commands print: results on standard output; progress, warnings and errors on standard error.

Everything printed is escaped first: names and reasons come from outside and may hold control characters or markup.
"""

from __future__ import annotations

import io
import json
import logging
import re
import sys
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
# Spillway's own signs, for a terminal that knows ASCII only.
_PLAIN = str.maketrans({"…": "...", "×": "x", "·": "|", "«": '"', "»": '"', "–": "-", "→": "->", "≥": ">=", "≤": "<="})
_WIDE = 300  # columns of a table that goes into a pipe or a file: rows are not wrapped there
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_errors = Console(stderr=True, soft_wrap=True, highlight=False)
RESULTS = Console(soft_wrap=True, highlight=False)  # standard output


def result(text: str) -> None:
    """Print a line of the result."""
    RESULTS.print(Text(_shown(text)))


def print_json(value: Any, indent: bool = False) -> None:
    """Print a value as JSON: on one line, or with `indent` for people."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else None).decode()
    text = printable_json(text)
    if not _unicode(RESULTS):
        text = "".join(letter if letter.isascii() else json.dumps(letter)[1:-1] for letter in text)
    print(text, flush=True)


def progress(text: str) -> None:
    """Report progress to a waiting user."""
    if json_lines():
        write_line(logging.INFO, printable(text))
        return
    _errors.print(Text(_shown(text, _errors), style="dim"))


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
    console = console or _errors
    console.print(Text.assemble((f"{label}:", color), " ", _shown(text, console)), soft_wrap=True, highlight=False)


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
    kept, with_rule = list(range(len(columns))), rule
    if RESULTS.is_terminal:
        kept, with_rule = fitting(found, lines, console.width, rule, drop)
    if kept:
        shown = [[row[at] for at in kept] for row in texts]
        sum_line = last and [last[at] for at in kept]
        table = grid([found[at] for at in kept], shown, sum_line, with_rule, not _unicode(console))
        console.print(table, soft_wrap=False)
    for line in () if kept else records(found, lines):
        RESULTS.print(line)
    if rule and not with_rule:  # the rule's table ends with an empty line
        RESULTS.print()


@contextmanager
def in_place() -> Iterator[None]:
    """What the block prints replaces what the screen shows. Without a screen, it follows what was printed before.

    If it is longer than the screen, its first line and the last ones are shown: what needs attention is at the end.
    """
    if not RESULTS.is_terminal or RESULTS.is_dumb_terminal:
        yield
        result("")
        return
    with RESULTS.capture() as captured:
        yield
    first, *others = captured.get().rstrip("\n").split("\n")
    shown: list[str] = []
    room = RESULTS.height - 1 - _height(first)
    for line in reversed(others):
        room -= _height(line)
        if room < 0:
            break
        shown.insert(0, line)
    print("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in [first, *shown]) + "\x1b[J", end="", flush=True)


def _height(line: str) -> int:
    """The lines of the screen that a line takes: the terminal folds a long one."""
    return 1 + max(0, len(_ESCAPES.sub("", line)) - 1) // RESULTS.width


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
    return f"{value:,}" if _is_number(value) else _shown(str(value))


def _unicode(console: Console) -> bool:
    return console.encoding.startswith("utf")


def _shown(text: str, console: Console = RESULTS) -> str:
    """The text as the console can show it: escaped, and in ASCII or Latin if it knows nothing else."""
    text = printable(text)
    if _unicode(console):
        return text
    return text.translate(_PLAIN).encode(console.encoding, "backslashreplace").decode(console.encoding)


def show_what_cannot_be_encoded() -> None:
    """Let standard output escape characters that its encoding lacks, as standard error does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.encoding.lower().startswith("utf"):
        sys.stdout.reconfigure(errors="backslashreplace")
