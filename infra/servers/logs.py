"""Printing log files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PAUSE = 0.2  # seconds between two looks at files that are followed


def show(files: Mapping[str, Path], follow: bool) -> None:
    """Print whole files, each line after its name if there are several; with `follow`, what comes until Ctrl-C."""
    width = max(map(len, files)) if len(files) > 1 else 0
    readers: dict[str, BinaryIO] = {}
    try:
        while True:
            for name, path in files.items():
                # A log that is not there yet may come while it is followed.
                if name not in readers and path.exists():
                    readers[name] = path.open("rb")
                if name in readers:
                    _print_rest(readers[name], f"{name:<{width}} | " if width else "", follow)
            if not follow:
                return
            time.sleep(PAUSE)
    except BrokenPipeError:
        # `spillway logs | head` has seen enough; Python must not try to flush at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for reader in readers.values():
            reader.close()


def _print_rest(reader: BinaryIO, prefix: str, follow: bool) -> None:
    """Print the lines that are there; a half one waits for its end while it is followed."""
    while line := reader.readline():
        if follow and not line.endswith(b"\n"):
            reader.seek(-len(line), 1)
            break
        sys.stdout.write(prefix + line.decode(errors="replace").rstrip("\n") + "\n")
    sys.stdout.flush()
