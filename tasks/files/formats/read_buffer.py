"""The part of a text that is being looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infra.errors.exceptions import Terminal

LONGEST_BYTES = 256 * 1024 * 1024  # of one row: a file without line ends must not fill the memory
_BLOCK_BYTES = 4 * 1024 * 1024  # below it the work for each block shows, above it the memory
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Reads into a buffer as much as there is room for, or less, and says how many bytes; 0 at the end.
Fill = Callable[[memoryview], int]


class ReadBuffer:
    """What has been read of a text and not been used up yet: the first `size` bytes of `buffer`.

    The buffer is used again and again, since fresh memory costs as much as the reading, and grows only for a row that
    it cannot hold. A byte order mark at the start is left out.
    """

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._at_start = True
        self.buffer = bytearray(_BLOCK_BYTES)
        self.size = 0

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes, until the next call of another method."""
        return np.frombuffer(self.buffer, np.uint8, self.size)

    def more(self) -> bool:
        """Read until the buffer is full or the text is at its end. False: there was nothing more."""
        if self.size == len(self.buffer):
            self._resize(min(2 * self.size, LONGEST_BYTES + _BLOCK_BYTES))
        before = self.size
        while self.size < len(self.buffer) and (count := self._fill(memoryview(self.buffer)[self.size :])):
            self.size += count
        grown = self.size > before
        if self._at_start and self.buffer.startswith(_BYTE_ORDER_MARK):
            self.drop(len(_BYTE_ORDER_MARK))
        self._at_start = False
        return grown

    def drop(self, count: int) -> None:
        """Go on behind the first `count` bytes."""
        rest = self.size - count
        self.buffer[:rest] = memoryview(self.buffer)[count : self.size]
        self.size = rest
        if rest < _BLOCK_BYTES < len(self.buffer):
            self._resize(_BLOCK_BYTES)

    def _resize(self, length: int) -> None:
        old, self.buffer = self.buffer, bytearray(length)
        self.buffer[: self.size] = memoryview(old)[: self.size]

    def check_length(self, where: str, advice: str) -> None:
        """Raises `Terminal` where all that is there is the beginning of one row, and is too long."""
        if self.size > LONGEST_BYTES:
            raise Terminal(f"backfill: {where}: expected its end within {LONGEST_BYTES:,} bytes, found none; {advice}")
