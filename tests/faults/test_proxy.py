"""The proxy breaks what a test asks it to break, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.proxy import Direction, Proxy
from tests.support.waiting import wait_until


@pytest.fixture
def received() -> bytearray:
    """What the server of `echo` has received."""
    return bytearray()


@pytest.fixture
def echo(received: bytearray) -> Iterator[Proxy]:
    """A proxy in front of a server that returns what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer(connection: socket.socket) -> None:
            with connection:
                try:
                    while data := connection.recv(65536):
                        received.extend(data)
                        connection.sendall(data)
                except OSError:
                    pass

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=[connection], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        with Proxy("127.0.0.1", server.getsockname()[1]) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=120)


def ask(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    found = b""
    while len(found) < len(text) and (data := connection.recv(65536)):
        found += data
    return found


def until_reset(connection: socket.socket) -> bytes:
    """What can be read until the connection is reset."""
    found = b""
    try:
        while data := connection.recv(10):
            found += data
    except ConnectionResetError:
        return found
    raise AssertionError(f"it was closed in order after {found!r}")


def connect_and_receive(proxy: Proxy) -> bytes:
    with connect(proxy) as connection:
        return connection.recv(10)


def test_all_bytes_pass_both_ways(echo: Proxy) -> None:
    text = bytes(range(256)) * 4000
    with connect(echo) as connection:
        sender = threading.Thread(target=connection.sendall, args=[text])
        sender.start()
        found = b""
        while len(found) < len(text):
            found += connection.recv(65536)
        sender.join()
    assert found == text


def test_a_cut_resets_open_and_new_connections_until_pass_on(echo: Proxy) -> None:
    with connect(echo) as connection:
        assert ask(connection, b"hello") == b"hello"
        echo.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    with pytest.raises(ConnectionResetError):
        connect_and_receive(echo)
    echo.pass_on()
    with connect(echo) as connection:
        assert ask(connection, b"hello") == b"hello"


def test_refused_connections_find_no_server_until_pass_on_opens_the_same_port(echo: Proxy) -> None:
    echo.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(echo)
    echo.pass_on()
    with connect(echo) as connection:
        assert ask(connection, b"hello") == b"hello"


def test_a_stalled_connection_resumes_without_losing_bytes(echo: Proxy) -> None:
    with connect(echo) as connection:
        ask(connection, b"hello")
        echo.stall()
        connection.settimeout(0.3)
        connection.sendall(b"later")
        with pytest.raises(TimeoutError):
            connection.recv(10)
        echo.pass_on()
        connection.settimeout(120)
        assert connection.recv(10) == b"later"


def test_a_slow_connection_keeps_to_its_rate(echo: Proxy) -> None:
    echo.slow(20_000)
    with connect(echo) as connection:
        began = time.monotonic()
        assert len(ask(connection, b"x" * 10_000)) == 10_000
        assert time.monotonic() - began > 0.4


@pytest.mark.parametrize("direction", ["requests", "replies"])
def test_cut_after_forwards_that_many_bytes_and_cuts_once(
    echo: Proxy, received: bytearray, direction: Direction
) -> None:
    with connect(echo) as connection:
        echo.cut_after(7, direction)
        connection.sendall(b"0123456789")
        found = until_reset(connection)
    if direction == "replies":
        assert found == b"0123456"
    else:  # the echo may come too late
        assert b"0123456".startswith(found)
        wait_until(lambda: bytes(received) == b"0123456")
    assert not echo.armed
    with connect(echo) as connection:
        assert ask(connection, b"hello") == b"hello"


def test_another_target_gets_the_new_connections(echo: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, connect(echo) as before:
        ask(before, b"hello")
        echo.lead_to("127.0.0.1", other.getsockname()[1])
        with pytest.raises(ConnectionResetError):
            before.recv(10)
        with connect(echo) as connection:
            accepted, _ = other.accept()
            with accepted:
                accepted.sendall(b"I am another")
                assert connection.recv(20) == b"I am another"
