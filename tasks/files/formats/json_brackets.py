"""The brackets and commas of JSON that stand in no string."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_STEP = np.zeros(256, np.int64)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1
_IS_SIGN = np.isin(np.arange(256), np.frombuffer(b'{}[],"', np.uint8))
_SCANNED_BYTES = 256 * 1024  # at once: what is found on the way stays in the cache


@dataclass(frozen=True)
class Signs:
    """n brackets and commas. `at`: int64, where; `kind`: uint8, which; `depth`: int64, how many are open after it."""

    at: NDArray[np.int64]
    kind: NDArray[np.uint8]
    depth: NDArray[np.int64]


def signs_of(data: NDArray[np.uint8], depth: int = 0) -> Signs:
    """Those of a text that begins in no string and within `depth` brackets.

    They are right as far as the text is JSON, and good for finding where a value ends: its content is checked later.
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
    """Where what stands behind a backslash is, that is not escaped itself."""
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
