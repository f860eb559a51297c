"""The keys of sampled documents that can fill a column, and the array whose elements are the rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.mapping.paths import InvalidKey, Path, parse_path, path_text
from tasks.mapping.sample_documents import Digits, Document

_MOST_LEAVES = 100  # columns of a table that a person can still check
_DEEPEST = 4  # names of a path
_POINT = range(2, 5)  # numbers in an array that are columns of their own, such as coordinates
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")


@dataclass(frozen=True)
class Leaf:
    """A key with its values in n documents, None if it is absent or null."""

    path: Path
    values: Sequence[Any]

    @property
    def key(self) -> str:
        """The key as a mapping names it."""
        return path_text(self.path)

    @property
    def words(self) -> str:
        """The last name in the path, as words: `created_at` of `createdAt`."""
        return words_of(next(step for step in reversed(self.path) if isinstance(step, str)))

    @property
    def present(self) -> int:
        """The number of documents that have it."""
        return sum(value is not None for value in self.values)


def words_of(name: str) -> str:
    """A name in lower case, with an underscore between its words."""
    return re.sub(r"\W+", "_", _CAPITAL.sub(r"_\1", name).lower()).strip("_")


def find_leaves(documents: Sequence[Document]) -> list[Leaf]:
    """The keys of some documents. An object whose members are the same in most documents is taken apart.

    Keys that a mapping cannot name are left out.
    """
    leaves = list(_members((), documents, 1))
    return leaves if len(leaves) <= _MOST_LEAVES else list(_members((), documents, _DEEPEST))


def _members(path: Path, objects: Sequence[Mapping[str, Any] | None], depth: int) -> Iterator[Leaf]:
    for name in dict.fromkeys(name for one in objects if one for name in one):
        inner = (*path, name)
        if _nameable(inner):
            yield from _leaves(inner, [one.get(name) if one else None for one in objects], depth)


def _leaves(path: Path, values: Sequence[Any], depth: int) -> Iterator[Leaf]:
    present = [value for value in values if value is not None]
    if depth < _DEEPEST and _are_records(present):
        yield from _members(path, values, depth + 1)
    elif depth < _DEEPEST and _are_points(present):
        for index in range(len(present[0])):
            yield Leaf((*path, index), [None if value is None else value[index] for value in values])
    else:
        yield Leaf(path, values)


def _nameable(path: Path) -> bool:
    try:
        return "\ufffd" not in path_text(path)
    except InvalidKey:
        return False


def _are_records(values: Sequence[Any]) -> bool:
    """Objects with mostly the same members, and not a map from data to data."""
    if not values or not all(isinstance(value, dict) and value for value in values):
        return False
    names = {name for value in values for name in value}
    return len(names) * len(values) <= 2 * sum(map(len, values))


def _are_points(values: Sequence[Any]) -> bool:
    return bool(values) and all(
        isinstance(value, list)
        and len(value) in _POINT
        and len(value) == len(values[0])
        and all(isinstance(item, Digits) for item in value)
        for value in values
    )


def find_each(documents: Sequence[Document], has_time: Callable[[Sequence[Document]], bool]) -> str | None:
    """The key of the array whose elements are the rows: they have a time, and the document itself has none.

    `has_time`: whether one of the keys of some documents is a time.
    """
    tops = [{k: v for k, v in document.items() if not isinstance(v, dict | list)} for document in documents]
    if has_time(tops):
        return None
    for path, lists in _arrays(documents):
        elements = [element for one in lists for element in one]
        if elements and all(isinstance(element, dict) for element in elements) and has_time(elements):
            return path_text(path)
    return None


def _arrays(documents: Sequence[Document]) -> Iterator[tuple[Path, list[list[Any]]]]:
    """The arrays that every document has, at its top level or one level below it."""
    tops: list[tuple[Path, Sequence[Any]]] = [((), documents)]
    while tops:
        path, objects = tops.pop(0)
        for name in dict.fromkeys(name for one in objects for name in one):
            values = [one.get(name) for one in objects]
            if not _nameable((*path, name)):
                continue
            if values and all(isinstance(value, list) for value in values):
                yield (*path, name), values
            elif not path and values and all(isinstance(value, dict) for value in values):
                tops.append(((name,), values))


def elements_of(documents: Sequence[Document], each: str) -> list[Document]:
    """The elements of the array `each` of all documents that are objects."""
    found: list[Document] = []
    for document in documents:
        value: Any = document
        for step in parse_path(each):
            value = value.get(step) if isinstance(value, dict) else None
        found += [element for element in value or [] if isinstance(element, dict)]
    return found
