"""Validate the first line of a CSV file as a header with column names."""

from __future__ import annotations

import re

from infra.errors.exceptions import Terminal
from tasks.columns.entries import MALFORMED
from tasks.files.bad_source import bad_source

INDEX = b"index"  # pandas: `to_csv` writes an unnamed index first, under an empty name
_SEPARATORS = {b",": "a comma", b";": "a semicolon", b"\t": "a tab", b"|": "a vertical bar"}
_NAME_SHOWN = 60  # bytes of a name that an error quotes
# A column name never looks like this: the first line is a record.
_VALUE = re.compile(rb"\d{4}-\d\d-\d\d([T ].*)?|[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def column_names(first: tuple[bytes | None, ...], delimiter: bytes, display_name: str) -> tuple[bytes, ...]:
    """The column names from the values of the first line. An empty first name becomes `INDEX`.

    Raises `Terminal` if another name is missing or repeated, or if the line is not a header with this delimiter. The
    message does not quote a line that may be data.
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
                f"no name for column {number}{end}",
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
                display_name,
                "a header with different names",
                f"{again} repeated in column {number}",
                "rename one of them",
            )
        names.append(name)
    return tuple(names)


def _refused(display_name: str, expected: str, found: str, advice: str) -> Terminal:
    return bad_source(display_name, f"expected {expected}, found {found}", advice)
