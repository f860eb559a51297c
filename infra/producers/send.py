"""Send entries to a stream with pipelined XADD, as fast as one connection allows or at a given rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

import redis
from redis import exceptions

from infra.connections.clients import redis_client
from infra.connections.redis_cluster import owner_of
from infra.connections.redis_connection import UnsupportedServer
from infra.display import count_of
from infra.errors.classify import is_transient, redis_code, tls_fault
from infra.errors.exceptions import SpillwayError, Terminal, Transient
from infra.errors.next_steps import next_step
from infra.errors.redact import one_line
from infra.settings import settings

# Bytes per write to the socket: 5,000 real events of up to 4 kB would be 20 MB.
_BATCH_BYTES = 4 * 1024 * 1024

# At a given rate, the longest wait for a batch to fill, unless the source is slower.
_BATCH_SECONDS = 0.1

# The most that a delayed sender catches up after a slow Redis or source, to avoid bursts.
_CATCH_UP_SECONDS = 1.0


def connect_redis() -> redis.Redis:
    """A client of the Redis in the settings. Connects at first use. Raises `Terminal` for an invalid URL."""
    return redis_client(settings())


@dataclass
class Pace:
    """Limits sending to `rate` entries per second on average. `clock` and `sleep` are in seconds."""

    rate: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _due: float | None = field(default=None, init=False)

    def wait(self, entries: int) -> None:
        """Wait until the next `entries` entries are due."""
        now = self.clock()
        due = now if self._due is None else max(self._due, now - _CATCH_UP_SECONDS)
        if due > now:
            self.sleep(due - now)
        self._due = due + entries / self.rate


def send(
    client: redis.Redis,
    stream: str,
    entries: Iterable[Mapping[bytes, bytes]],
    *,
    batch: int = 5000,
    rate: float | None = None,
    on_sent: Callable[[int], None] | None = None,
) -> int:
    """Add `entries` to `stream` in order, with ids that Redis assigns. Returns their number.

    `batch` entries (or about 4 MiB) are sent at once, while the next batch is built. `rate` is in entries per second.
    `on_sent` is called after each batch with the number of entries that Redis has just confirmed, not with the total.

    Raises `Transient` or `Terminal` with the server and the number of sent entries. An error of `entries` is raised
    after all entries before it are sent and confirmed.
    """
    pace = Pace(rate) if rate else None
    if rate:
        batch = max(1, min(batch, int(rate * _BATCH_SECONDS)))
    in_flight = _InFlight(on_sent)
    with _translate_errors(client, stream, in_flight), _connection(owner_of(client, stream)) as connection:
        for commands in _packed(stream.encode(), entries, batch):
            in_flight.settle(connection)
            if pace:
                pace.wait(len(commands))
            in_flight.unconfirmed = len(commands)
            connection.send_packed_command([b"".join(commands)], check_health=False)
        in_flight.settle(connection)
    return in_flight.sent


@dataclass
class _InFlight:
    """`sent`: entries Redis confirmed; `unconfirmed`: entries written to it whose replies have not been read."""

    on_sent: Callable[[int], None] | None
    sent: int = 0
    unconfirmed: int = 0

    def settle(self, connection: redis.Connection) -> None:
        """Read all outstanding replies, then raise the first error among them."""
        before = self.sent
        refusal: exceptions.ResponseError | None = None
        while self.unconfirmed:
            try:
                connection.read_response()
                self.sent += 1
            except exceptions.ResponseError as error:
                refusal = refusal or error
            self.unconfirmed -= 1
        if self.on_sent and self.sent > before:
            self.on_sent(self.sent - before)
        if refusal:
            raise refusal


def _packed(stream: bytes, entries: Iterable[Mapping[bytes, bytes]], batch: int) -> Iterator[list[bytes]]:
    """Batches of XADD commands in wire format.

    This does not use `client.pipeline()`, which reaches 28,000 to 58,000 entries/s instead of 190,000 (five fields, 217
    bytes; two cores shared with Redis 7.0 and other work). An error of `entries` is raised after the last batch and an
    empty one, for which the caller reads the replies.
    """
    commands: list[bytes] = []
    size = 0
    failure: Exception | None = None
    try:
        for entry in entries:
            values = entry.values()
            pairs = zip(map(len, values), values, strict=True)
            command = _template(stream, tuple(entry)) % (*chain.from_iterable(pairs),)
            commands.append(command)
            size += len(command)
            if len(commands) >= batch or size >= _BATCH_BYTES:
                yield commands
                commands, size = [], 0
    except Exception as error:
        failure = error
    if commands:
        yield commands
    if failure:
        yield []
        raise failure


@lru_cache(maxsize=1024)  # the Crossref events have 6 sets of keys
def _template(stream: bytes, fields: tuple[bytes, ...]) -> bytes:
    """A template of an XADD in RESP, filled with the length and the bytes of each value in turn.

    It takes half the time of hiredis.pack_command, because the field names repeat.
    Protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
    """
    names = (b"$%d\r\n%b\r\n$%%d\r\n%%b\r\n" % (len(name), name.replace(b"%", b"%%")) for name in fields)
    head = b"*%d\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n"
    return head % (3 + 2 * len(fields), len(stream), stream.replace(b"%", b"%%")) + b"".join(names)


@contextmanager
def _connection(client: redis.Redis) -> Iterator[redis.Connection]:
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        # Replies may still arrive, and the next user of the connection must not read them.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


@contextmanager
def _translate_errors(client: redis.Redis, stream: str, in_flight: _InFlight) -> Iterator[None]:
    try:
        yield
    except exceptions.RedisError as error:
        raise _refusal(error, client, stream, in_flight) from error


def _refusal(error: exceptions.RedisError, client: redis.Redis, stream: str, in_flight: _InFlight) -> SpillwayError:
    at = client.connection_pool.connection_kwargs
    server = at.get("path") or f"{at.get('host', 'localhost')}:{at.get('port', 6379)}"
    if isinstance(error, UnsupportedServer):
        return Terminal(f"send to {stream}: Redis at {server}: {one_line(error)}")
    sent = count_of(in_flight.sent, "entry was sent", "entries were sent")
    if in_flight.unconfirmed:
        sent += f" and up to {in_flight.unconfirmed:,} more may have been"
    kind = Transient if is_transient(error) else Terminal
    return kind(f"send to {stream}: Redis at {server}: {one_line(error)}; {sent}; {_next_step(error)}")


# The first match counts: some of these are subclasses of ConnectionError.
_NEXT_STEPS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.AuthenticationError, "correct the user and password in SPILLWAY_REDIS_URL"),
    (exceptions.NoPermissionError, "let the user of SPILLWAY_REDIS_URL run XADD on this stream (ACL SETUSER)"),
    (exceptions.OutOfMemoryError, "drain the stream or raise Redis's maxmemory, then send the rest"),
    (exceptions.ReadOnlyError, "point SPILLWAY_REDIS_URL at the primary"),
    (exceptions.BusyLoadingError, "wait until Redis has loaded its data, then try again"),
    (exceptions.ConnectionError, "start it (spillway up), or point SPILLWAY_REDIS_URL at a running server"),
    (exceptions.TimeoutError, "check why Redis is slow, or raise SPILLWAY_REDIS_TIMEOUT, then send the rest"),
)


def _next_step(error: exceptions.RedisError) -> str:
    if str(error).startswith("WRONGTYPE"):
        return "name another stream: this key has another type"
    own = next((step for kind, step in _NEXT_STEPS if isinstance(error, kind)), None)
    return next_step(error) if own is None or tls_fault(error) or redis_code(error) == "NOAUTH" else own
