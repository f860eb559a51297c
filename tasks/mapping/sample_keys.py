"""The keys that sampled documents have, compared with those that a mapping reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from infra.mapping.paths import Path, parse_path, path_text
from tasks.columns.row_layout import FilledColumn, RowLayout
from tasks.mapping.sample_documents import Document

_DEEPEST = 6  # names of a path that is searched for keys
_ELEMENTS = 10  # of an array that count as keys


def count_keys(documents: Sequence[Document]) -> Counter[Path]:
    """How many documents have each key, at any depth. The first scalars in an array have keys too."""
    counts: Counter[Path] = Counter()
    for document in documents:
        counts.update(set(_paths((), document)))
    return counts


def _paths(path: Path, value: Any) -> list[Path]:
    found: list[Path] = [path] if path and value is not None else []
    if len(path) >= _DEEPEST:
        return found
    if isinstance(value, dict):
        for name, inner in value.items():
            found += _paths((*path, name), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value[:_ELEMENTS]):
            if not isinstance(inner, dict | list):
                found += _paths((*path, index), inner)
    return found


def unmapped_keys(layouts: Sequence[RowLayout], route_key: str | None, keys: Counter[Path]) -> dict[str, int]:
    """The keys that no column reads, without those inside of them. None if a column has the document or the rest.

    `layouts`: of each table that the rows go to. `route_key`: the key that chooses the table.
    """
    columns = [column for layout in layouts for column in layout.columns]
    if any(column.source.whole in ("document", "unmapped") for column in columns):
        return {}
    read = {path for column in columns for key in column.source.keys for path in _both(key)}
    read |= set(_both(route_key)) if route_key is not None else set()
    inner = {path[:size] for path in read for size in range(1, len(path))}
    found: dict[str, int] = {}
    for path, count in keys.items():
        above = {path[:size] for size in range(1, len(path))}
        if path in read or path in inner or above & read or not above <= inner or isinstance(path[-1], int):
            continue
        found[_spelled(path)] = count
    return found


def _both(key: str) -> tuple[Path, Path]:
    """A key is the name of a field, or a path."""
    return (key,), parse_path(key)


def _spelled(path: Path) -> str:
    try:
        return path_text(path)
    except ValueError:
        return ".".join(map(str, path))


def near_keys(column: FilledColumn, keys: Counter[Path], documents: str) -> list[str]:
    """Each key of a column that no document has, and the keys that may be meant. `documents`: how many there are."""
    by_name = {_spelled(path): count for path, count in keys.items()}
    found = []
    for key in column.source.keys:
        if any(keys[path] for path in _both(key)):
            continue
        last = str(parse_path(key)[-1])
        same = [name for name in by_name if _path_or_name(name)[-1] == last]
        near = list(dict.fromkeys([*same, *get_close_matches(key, by_name, 2, 0.75)]))[:2]
        if not near and not column.named:
            continue  # a column of the table that the stream has nothing for
        meant = "".join(f"; {name} is in {by_name[name]:,}" for name in near)
        found.append(f"{key}: in none of {documents}{meant}")
    return found


def _path_or_name(key: str) -> Path:
    """The path of a key, or the key itself if it is not a valid one."""
    try:
        return parse_path(key)
    except ValueError:
        return (key,)
