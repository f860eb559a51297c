"""The names in the first line of CSV: what they are, or why it is no header."""

from __future__ import annotations

import re

from infra.errors.exceptions import Terminal
from tasks.columns.entries import MALFORMED

INDEX = b"index"  # what pandas calls an index without a name, which `to_csv` writes first, without a name
_SEPARATORS = {b",": "a comma", b";": "a semicolon", b"\t": "a tab", b"|": "a vertical bar"}
_NAME_SHOWN = 60  # bytes of a name that an error quotes
# Nobody calls a column so: the first line is a record.
_VALUE = re.compile(rb"\d{4}-\d\d-\d\d([T ].*)?|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def column_names(first: tuple[bytes | None, ...], delimiter: bytes, display_name: str) -> tuple[bytes, ...]:
    """The names of the columns, of the values in the first line. Without one, the first column is `INDEX`.

    Raises `Terminal` if other names are missing or repeated, and for what is no header with this delimiter; without
    quoting a line that is none.
    """
    if first[0] and first[0].startswith((b"{", b"[")):
        raise _refused(
            display_name, "a header with the names of the columns", "JSON", "give the file a name in .ndjson or .json"
        )
    if len(first) == 1 and first[0]:
        for separator, called in _SEPARATORS.items():
            if separator in first[0]:
                raise _refused(
                    display_name,
                    f"{_SEPARATORS[delimiter]} between the names of the columns",
                    called,
                    "convert the separators",
                )
    if len(first) > 1 and not first[0]:
        first = (INDEX, *first[1:])
    names: list[bytes] = []
    for number, name in enumerate(first, 1):
        if not name:
            end = f", since the line ends with {_SEPARATORS[delimiter]}" if number == len(first) > 1 else ""
            raise _refused(
                display_name,
                "a header with a name for each column",
                f"none for column {number}{end}",
                "put the names into the first line",
            )
        if _VALUE.fullmatch(name):
            raise _refused(
                display_name,
                "a header with the names of the columns",
                f"a time or a UUID in column {number} of the first line",
                "put the names into the first line",
            )
        if name in names or name == MALFORMED:
            again = ascii(name[:_NAME_SHOWN].decode(errors="replace"))
            raise _refused(
                display_name, "a header with different names", f"{again} again in column {number}", "rename one"
            )
        names.append(name)
    return tuple(names)


def _refused(display_name: str, expected: str, found: str, advice: str) -> Terminal:
    return Terminal(f"backfill: {display_name}: expected {expected}, found {found}; nothing was loaded: {advice}")
