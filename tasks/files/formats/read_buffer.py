"""A buffer for the part of a text that is being parsed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tasks.files.bad_source import bad_source

LONGEST_BYTES = 256 * 1024 * 1024  # of one row: bounds memory for a file without line ends
_BLOCK_BYTES = 4 * 1024 * 1024  # smaller blocks cost time per block, larger ones cost memory
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Reads up to the length of the buffer into it and returns the number of bytes; 0 at the end.
Fill = Callable[[memoryview], int]


class ReadBuffer:
    """The bytes of a text that were read but not yet consumed: the first `size` bytes of `buffer`.

    The buffer is reused, because allocating memory costs as much as reading. It grows only for a row that does not fit.
    A byte order mark at the start of the text is dropped.
    """

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._at_start = True
        self.buffer = bytearray(_BLOCK_BYTES)
        self.size = 0

    @property
    def data(self) -> NDArray[np.uint8]:
        """The unconsumed bytes. Valid until the next method call."""
        return np.frombuffer(self.buffer, np.uint8, self.size)

    def more(self) -> bool:
        """Read until the buffer is full or the text ends. Returns False if nothing was read."""
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
        """Consume the first `count` bytes."""
        rest = self.size - count
        self.buffer[:rest] = memoryview(self.buffer)[count : self.size]
        self.size = rest
        if rest < _BLOCK_BYTES < len(self.buffer):
            self._resize(_BLOCK_BYTES)

    def _resize(self, length: int) -> None:
        old, self.buffer = self.buffer, bytearray(length)
        self.buffer[: self.size] = memoryview(old)[: self.size]

    def check_length(self, row_name: str, advice: str) -> None:
        """Raise `Terminal` if the buffer exceeds `LONGEST_BYTES` while it holds only part of one row."""
        if self.size > LONGEST_BYTES:
            raise bad_source(row_name, f"expected its end within {LONGEST_BYTES:,} bytes, found no end", advice)
