"""Tables for a terminal of any width: nothing is cut, and the columns that matter stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_ASCII_HEAD = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)  # as SIMPLE_HEAD
_LEAST_WIDTH = 14  # characters of a column whose text is folded
_GAP = 2  # spaces between columns
_GAP_OF_RULE = 3  # with a line below the names, also at the edges


@dataclass(frozen=True)
class Column:
    """`right`: aligned to the right. `whole`: never folded, such as an id or a number. `name`: the heading."""

    name: str
    right: bool = False
    whole: bool = False


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, rule: bool, drop: Sequence[str]
) -> tuple[list[int], bool]:
    """The positions of the columns that are shown, and whether there is room for the line below the names.

    If the table is too wide, it is set without that line, which takes room between the columns as well; then without as
    many of `drop`, in that order, as is needed. No column at all, if even then it is too wide.
    """
    least = [_least(column, [row[at] for row in rows], width) for at, column in enumerate(columns)]
    if rule and sum(least) + _GAP_OF_RULE * len(least) <= width:
        return list(range(len(columns))), True
    kept = list(range(len(columns)))
    for name in ("", *drop):
        kept = [at for at in kept if columns[at].name != name]
        if sum(least[at] + _GAP for at in kept) - _GAP <= width:
            return kept, False
    return [], False


def _least(column: Column, texts: Sequence[str], width: int) -> int:
    """The least width of a column, in characters. A text that is folded gets a fifth of the terminal."""
    natural = max([cell_len(column.name), *map(cell_len, texts)])
    return natural if column.whole else min(natural, max(_LEAST_WIDTH, width // 5, _longest_word(column.name)))


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
