"""What each of several simultaneous runs works on, so that each takes something that no other has.

A claim is a lock in the database, and advice only: the ledger makes it impossible to load a range twice. It is held by
an open transaction, since a pooler may give each transaction another session, and the server ends it with the process,
or after `_IDLE_SECONDS` without a sign of life. It belongs to one database, so two that drain one stream do not meet.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import psycopg

from infra.connections.clients import Clients
from infra.errors.exceptions import SpillwayError
from infra.errors.redact import one_line
from tasks.base.addresses import IdRange, id_text
from tasks.base.run_log import run_logger
from tasks.base.step import step
from tasks.ledger.plan import DrainPlan
from tasks.ledger.undrained import undrained

# The text whose hash is locked for a whole stream.
STREAM_CLAIM = "spillway drain {stream}"
_TRY = "SELECT pg_try_advisory_xact_lock(hashtextextended(name, 0)) FROM unnest(%s::text[]) AS name"
_IDLE_SECONDS = 60
_SIGN_OF_LIFE_SECONDS = 15
_BATCHES = 4  # in a part of a stream, about
_LEAST_ENTRIES = 50_000  # the same
_MOST_PARTS = 128  # of a stream, about


@dataclass(frozen=True)
class Claim:
    """A part of a stream: `gaps`, the id ranges to read. `key`: the same text in every run."""

    gaps: tuple[IdRange, ...]
    key: str


def parts_of(plan: DrainPlan, batch_rows: int | None) -> list[Claim]:
    """A planned stream in parts, in order: one, or several of about four batches if it has more than eight.

    `batch_rows`: entries of a batch; None if the stream must not be cut.
    Two runs that plan at different times mostly have the same parts: their borders are multiples of a power of two.
    """
    whole = STREAM_CLAIM.format(stream=plan.stream)
    if not plan.gaps:
        return []
    if batch_rows is None:
        return [Claim(plan.gaps, whole)]
    entries = max(_BATCHES * batch_rows, _LEAST_ENTRIES, plan.lag // _MOST_PARTS)
    first = max(plan.gaps[0].start, plan.tail.first)  # a new stream begins long after the id 0
    span = plan.upto + 1 - first
    if plan.lag <= 2 * entries or span < 2:
        return [Claim(plan.gaps, whole)]
    width = 1 << max(0, (span * entries // plan.lag).bit_length() - 1)
    borders = range((first // width + 1) * width, plan.upto + 1, width)
    return [
        Claim(gaps, f"{whole} {id_text(gaps[-1].stop)}") for gaps in _cut(plan.gaps, [*borders, plan.upto + 1]) if gaps
    ]


def _cut(gaps: Sequence[IdRange], borders: Sequence[int]) -> Iterator[tuple[IdRange, ...]]:
    """The parts of `gaps` before the first border, before the second one, and so on."""
    start = 0
    for border in borders:
        yield tuple(_overlaps(gaps, [IdRange(start, border)]))
        start = border


class Claims:
    """The claims of one run, used by one thread. Without a connection to hold them, everything is free."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._held: dict[str, None] = {}
        self._released = False
        self._opened: ExitStack | None = None
        self._connection: psycopg.Connection | None = None
        self._signed = 0.0  # when the server last heard of us

    def take(self, claim: Claim) -> bool:
        """Whether no other run has it. Then it is held until `release`."""
        if claim.key in self._held:
            return True
        if not self._is_free(claim.key):
            return False
        self._held[claim.key] = None
        return True

    def release(self, claim: Claim) -> None:
        """Let others have it."""
        self._released = self._held.pop(claim.key, "") is None or self._released

    def keep(self) -> None:
        """Tell the server now and then that this process lives."""
        if self._connection is not None and time.monotonic() - self._signed > _SIGN_OF_LIFE_SECONDS:
            self._is_free()

    def close(self) -> None:
        """Release all of them."""
        self._held.clear()
        self._end()

    def _is_free(self, *keys: str) -> bool:
        for attempt in range(2):  # the first one finds out that the server has ended the session
            try:
                if self._released:  # a lock ends with its transaction: another one takes those that are still held
                    self._end()
                connection = self._connection or self._begin()
                taken = [free for (free,) in connection.execute(_TRY, [list(keys)])]
                self._signed = time.monotonic()
                return all(taken)
            except (psycopg.Error, SpillwayError) as error:
                self._end()
                if attempt:
                    run_logger().info("claims: %s; goes on without them", one_line(error))
        return True

    def _begin(self) -> psycopg.Connection:
        """Open a transaction that takes again what is held, if nobody was faster."""
        with ExitStack() as opened:
            connection = opened.enter_context(self._clients.postgres())
            opened.enter_context(connection.transaction())
            connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'".encode())
            connection.execute(_TRY, [list(self._held)])
            self._opened, self._connection = opened.pop_all(), connection
        return connection

    def _end(self) -> None:
        """End the transaction and give the connection back, which releases all locks."""
        opened, self._opened, self._connection, self._released = self._opened, None, None, False
        if opened is not None:
            with suppress(psycopg.Error):  # it is closed, and the locks are gone with it
                opened.close()


@step("check a part")
def still_undrained(clients: Clients, stream: str, claim: Claim) -> Claim | None:
    """What the ledger does not have of a part that was planned a while ago; None if it has all of it.

    Raises `SpillwayError`.
    """
    with clients.translate_errors(f"plan {stream}"), clients.postgres() as connection:
        remaining = undrained(connection, stream, claim.gaps[-1].stop)
    gaps = () if remaining is None else tuple(_overlaps(remaining.gaps, claim.gaps))
    return Claim(gaps, claim.key) if gaps else None


def _overlaps(left: Sequence[IdRange], right: Sequence[IdRange]) -> Iterator[IdRange]:
    for one in left:
        for other in right:
            if (start := max(one.start, other.start)) < (stop := min(one.stop, other.stop)):
                yield IdRange(start, stop)
