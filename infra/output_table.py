"""Tables for a terminal of any width: nothing is cut, and the columns that matter stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_ASCII_HEAD = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)  # as SIMPLE_HEAD
_LEAST_WIDTH = 14  # characters of a column whose text is folded; below that the table is hard to read
_GAP = 2  # spaces between columns


@dataclass(frozen=True)
class Column:
    """`right`: aligned to the right. `whole`: never folded, such as an id or a number. `name`: the heading."""

    name: str
    right: bool = False
    whole: bool = False


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, drop: Sequence[str]) -> list[int]:
    """The positions of the columns that are shown: without as many of `drop`, in that order, as is needed to fit.

    None of them, if even then the table is too wide.
    """
    least = [_least(column, [row[at] for row in rows]) + _GAP for at, column in enumerate(columns)]
    kept = list(range(len(columns)))
    for name in ("", *drop):
        kept = [at for at in kept if columns[at].name != name]
        if sum(least[at] for at in kept) - _GAP <= width:
            return kept
    return []


def _least(column: Column, texts: Sequence[str]) -> int:
    """The least width of a column, in characters."""
    natural = max([cell_len(column.name), *map(cell_len, texts)])
    return natural if column.whole else min(natural, max(_LEAST_WIDTH, _longest_word(column.name)))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def grid(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], total: Sequence[str] | None, rule: bool, ascii_only: bool
) -> Table:
    """The table, with a line below the names if `rule`; `total` is a last row, set off from the others."""
    box = None if not rule else _ASCII_HEAD if ascii_only else SIMPLE_HEAD
    table = Table(box=box, pad_edge=rule)
    for column in columns:
        table.add_column(
            Text(column.name), justify="right" if column.right else "left", no_wrap=column.whole, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(Text, row))
    if total is not None:
        table.add_section()
        table.add_row(*map(Text, total))
    return table


def records(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[Text]:
    """Rows for a terminal that is too narrow: a line for each value that is not empty, with its name."""
    longest = max(cell_len(column.name) for column in columns)
    for number, row in enumerate(rows):
        if number:
            yield Text("")
        for column, text in zip(columns, row, strict=True):
            if text:
                yield Text.assemble((column.name.ljust(longest), "bold"), "  ", text)
