"""A TCP proxy whose network can be broken: cut, refused, stalled, slow, or cut after so many bytes."""

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
_ANSWER_SECONDS = 10  # for a command to this proxy; it only waits for its own thread


class Proxy:
    """Leads every connection to `target`; a context manager. All methods may be called from any thread.

    It begins in the state of `pass_on`. What was read when the network breaks is kept back or thrown away as a real one
    would: a stalled connection goes on where it stopped, one that was cut is gone.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pace: float | None = None  # bytes a second
        self._resetting = False
        self._left: dict[Direction, int] = {}
        self.port = 0
        self.cuts = 0  # connections that were broken here

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
        """Work as a cable does."""
        self._do(self._pass_on)

    def lead_to(self, host: str, port: int) -> None:
        """Lead new connections to another server, and cut those that are open."""
        self._target = (host, port)
        self._do(self._break_all)

    def cut(self) -> None:
        """Reset every connection, and each new one as soon as it is there."""
        self._do(self._cut)

    def blink(self) -> None:
        """Reset every connection that is open; new ones are led through."""
        self._do(self._break_all)

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as where no server is."""
        self._do(self._refuse)

    def stall(self) -> None:
        """Let nothing through, and tell nobody: connections stay open, new ones are accepted."""
        self._do(self._flowing.clear)

    def slow(self, bytes_per_second: float) -> None:
        """Let so much through of each connection in each direction."""
        self._pace = bytes_per_second

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let `count` more bytes pass in a direction, then reset every connection, once."""
        self._left[direction] = count

    @property
    def armed(self) -> bool:
        """Whether a `cut_after` has not happened yet."""
        return bool(self._left)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._pairs)

    def _do(self, action: Callable[[], Coroutine[Any, Any, None] | None]) -> None:
        """Run `action` in the proxy's own thread and wait until it is done."""

        async def act() -> None:
            if (more := action()) is not None:
                await more

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(_ANSWER_SECONDS)

    async def _pass_on(self) -> None:
        self._pace, self._resetting, self._left = None, False, {}
        self._flowing.set()
        if self._server is None:
            # The same port again after `refuse`: clients know no other.
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_CHUNK)
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
            pass  # either side is gone, and so is the other; or the proxy ends
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
                await asyncio.sleep(0.01)  # so that the other side has read what it got before the reset
                self._break_all()
                return
            if left is not None:
                self._left[direction] = left - len(data)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof() and pair in self._pairs:
            sink.write_eof()

    def _portion(self) -> int:
        """Of a slow connection, what takes a tenth of a second."""
        return max(1, int(self._pace / 10)) if self._pace else _CHUNK


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
