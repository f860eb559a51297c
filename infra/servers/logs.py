"""Printing log files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

PAUSE = 0.2  # seconds between two reads of followed files


def show(files: Mapping[str, Path], follow: bool) -> None:
    """Print whole files, each line with its file's name if there are several; with `follow`, until Ctrl-C."""
    width = max(map(len, files)) if len(files) > 1 else 0
    readers: dict[str, BinaryIO] = {}
    try:
        while True:
            for name, path in files.items():
                # A followed log may be created later.
                if name not in readers and path.exists():
                    readers[name] = path.open("rb")
                if name in readers:
                    _print_rest(readers[name], f"{name:<{width}} | " if width else "", follow)
            if not follow:
                return
            time.sleep(PAUSE)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe: Python must not flush into it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for reader in readers.values():
            reader.close()


def _print_rest(reader: BinaryIO, prefix: str, follow: bool) -> None:
    """Print all complete lines. An incomplete last one is printed only if the log is not followed."""
    while line := reader.readline():
        if follow and not line.endswith(b"\n"):
            reader.seek(-len(line), 1)
            break
        sys.stdout.write(prefix + line.decode(errors="replace").rstrip("\n") + "\n")
    sys.stdout.flush()
