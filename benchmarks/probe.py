"""Asks a Redis for a PING about every millisecond until its own standard input ends; then writes the answers' times.

A process of its own, so that no other work holds it up:  python -m benchmarks.probe HOST PORT. It writes a line when it
begins, and at the end the round trips in seconds, as the bytes of float64. It imports nothing heavy: it starts quickly.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from array import array

EVERY_SECONDS = 0.001


def main(host: str, port: int) -> None:
    """Ask until standard input ends."""
    took = array("d")
    with socket.create_connection((host, port)) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], EVERY_SECONDS)[0]:
            began = time.perf_counter()
            server.sendall(b"PING\r\n")
            answer = server.recv(64)
            took.append(time.perf_counter() - began)
            if answer != b"+PONG\r\n":
                raise SystemExit(f"expected a PONG, found {answer!r}")
    sys.stdout.buffer.write(took.tobytes())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
