"""Send a PING to a Redis about every millisecond until standard input ends, then write the round trips.

It is a separate process, so that no other work delays it: python -m benchmarks.probe HOST PORT. It writes a line when
it starts, and at the end the round trips in seconds as bytes of float64. It imports little, so that it starts quickly.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from array import array

EVERY_SECONDS = 0.001


def main(host: str, port: int) -> None:
    """Send PINGs until standard input ends."""
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
