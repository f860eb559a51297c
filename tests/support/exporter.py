"""`spillway metrics --listen` in a process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.ports import free_port
from tests.support.programs import BIN


@contextmanager
def listening(env: Mapping[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`spillway metrics --listen`, from its message on."""
    port = free_port()
    command = [BIN / "spillway", "metrics", "--listen", str(port), *arguments]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"metrics: http://127.0.0.1:{port}/metrics, until Ctrl-C or SIGTERM\n"
        yield process, port
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
