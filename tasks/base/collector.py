"""Python's cyclic garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_pauses = 0
_was_on = True  # before the first of these pauses


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the collector. Thousands of entries are containers without cycles, which it would scan again and again.

    It belongs to the process: if several threads pause it, the last one that ends turns it on again.
    """
    global _pauses, _was_on
    with _lock:
        if not _pauses:
            _was_on = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_on:
                gc.enable()
