"""Locate the brackets and commas of JSON that are outside strings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_STEP = np.zeros(256, np.int64)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1
_IS_SIGN = np.isin(np.arange(256), np.frombuffer(b'{}[],"', np.uint8))
_SCANNED_BYTES = 256 * 1024  # scanned at once: intermediate arrays stay in the CPU cache


@dataclass(frozen=True)
class Signs:
    """n brackets and commas: positions (int64), bytes (uint8), and the number of open brackets after each (int64)."""

    at: NDArray[np.int64]
    kind: NDArray[np.uint8]
    depth: NDArray[np.int64]


def signs_of(data: NDArray[np.uint8], depth: int = 0) -> Signs:
    """The brackets and commas of a text that begins outside strings and inside `depth` brackets.

    The result is valid as long as the text is JSON. It locates the end of a value; the value itself is checked later.
    """
    at = _where(data, _IS_SIGN)
    kind = data[at]
    is_quote = kind == _QUOTE
    if is_quote.any():
        real = is_quote & ~np.isin(at, _escaped(data), assume_unique=True)
        outside = ~is_quote & (np.cumsum(real) % 2 == 0)
        at, kind = at[outside], kind[outside]
    return Signs(at, kind, depth + np.cumsum(_STEP[kind]))


def _escaped(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The positions of escaped characters: those after a backslash that is not itself escaped."""
    slashes = _where(data, np.arange(256) == _BACKSLASH)
    if not len(slashes):
        return slashes
    breaks = np.diff(slashes) != 1
    first, last = slashes[np.append(True, breaks)], slashes[np.append(breaks, True)]
    escaped: NDArray[np.int64] = last[(last - first) % 2 == 0] + 1
    return escaped


def _where(data: NDArray[np.uint8], kinds: NDArray[np.bool_]) -> NDArray[np.int64]:
    found = [
        np.flatnonzero(kinds[data[start : start + _SCANNED_BYTES]]) + start
        for start in range(0, len(data), _SCANNED_BYTES)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)
