"""A TCP proxy with a network that tests can break: cut, refused, stalled, slow, or cut after some bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal

Direction = Literal["requests", "replies"]

_CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST
_ANSWER_SECONDS = 120  # for a command to the proxy's thread


class Proxy:
    """Forwards every connection to `target`; a context manager. Any thread may call its methods.

    It starts in the state of `pass_on`. When the network breaks, bytes in transit are held or lost as in a real one: a
    stalled connection continues where it stopped, and a cut one is lost.
    """

    def __init__(self, host: str, port: int, listen: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._listen = listen
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pace: float | None = None  # bytes per second
        self._resetting = False
        self._left: dict[Direction, int] = {}
        self.port = 0
        self.cuts = 0  # connections that the proxy broke

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.pass_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_ANSWER_SECONDS)
        self._loop.close()

    def pass_on(self) -> None:
        """Forward everything."""
        self._do(self._pass_on)

    def lead_to(self, host: str, port: int) -> None:
        """Forward new connections to another server, and cut the open ones."""
        self._target = (host, port)
        self._do(self._break_all)

    def cut(self) -> None:
        """Reset every connection, and each new one as soon as it is accepted."""
        self._do(self._cut)

    def blink(self) -> None:
        """Reset every open connection; forward new ones."""
        self._do(self._break_all)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as if no server listened."""
        self._do(self._refuse)

    def stall(self) -> None:
        """Forward nothing and report nothing: connections stay open, and new ones are accepted."""
        self._do(self._flowing.clear)

    def slow(self, bytes_per_second: float) -> None:
        """Limit each connection to this rate in each direction."""
        self._pace = bytes_per_second

    def cut_after(self, count: int, direction: Direction) -> None:
        """Forward `count` more bytes in one direction, then reset every connection once."""
        self._left[direction] = count

    @property
    def armed(self) -> bool:
        """Whether a `cut_after` has not happened yet."""
        return bool(self._left)

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._pairs)

    def _do(self, action: Callable[[], Coroutine[Any, Any, None] | None]) -> None:
        """Run `action` in the proxy's thread and wait for it."""

        async def act() -> None:
            if (more := action()) is not None:
                await more

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(_ANSWER_SECONDS)

    async def _pass_on(self) -> None:
        self._pace, self._resetting, self._left = None, False, {}
        self._flowing.set()
        if self._server is None:
            # After `refuse` the same port again: clients know no other.
            self._server = await asyncio.start_server(self._serve, self._listen, self.port, limit=_CHUNK)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        self._resetting = True
        self._break_all()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._break_all()

    async def _end(self) -> None:
        await self._refuse()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _break_all(self) -> None:
        for pair in tuple(self._pairs):
            self._break(pair)

    def _break(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        if pair in self._pairs:
            self._pairs.discard(pair)
            self.cuts += 1
            for writer in pair:
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._resetting:
            self.cuts += 1
            _reset(writer)
            return
        await self._flowing.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        pumps = (
            asyncio.ensure_future(self._pump(reader, far_writer, "requests", pair)),
            asyncio.ensure_future(self._pump(far_reader, writer, "replies", pair)),
        )
        try:
            await asyncio.gather(*pumps)
        except (OSError, asyncio.CancelledError):
            pass  # one side has closed, so the other is closed too; or the proxy ends
        finally:
            self._pairs.discard(pair)
            for pump in pumps:
                pump.cancel()
            for one in pair:
                one.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: Direction,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        while data := await source.read(self._portion()):
            await self._flowing.wait()
            if self._pace:
                await asyncio.sleep(len(data) / self._pace)
            left = self._left.get(direction)
            if left is not None and len(data) >= left:
                del self._left[direction]
                sink.write(data[:left])
                with contextlib.suppress(OSError):
                    await sink.drain()
                await asyncio.sleep(0.01)  # so that the other side reads what arrived before the reset
                self._break_all()
                return
            if left is not None:
                self._left[direction] = left - len(data)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof() and pair in self._pairs:
            sink.write_eof()

    def _portion(self) -> int:
        """How many bytes a slow connection forwards at a time: those of a tenth of a second."""
        return max(1, int(self._pace / 10)) if self._pace else _CHUNK


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
