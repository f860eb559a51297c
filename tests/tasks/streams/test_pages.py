"""The stream is away or replaced for a moment, between any two commands of a reader, on a real Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import redis

from infra.connections.clients import redis_client as connect
from infra.settings import Settings
from tasks.base.addresses import IdRange, parse_id
from tasks.columns.batch import Batch, BatchLimits
from tasks.columns.decode import TimeWindow
from tasks.streams.pages import PAGE_LIMITS, AbsenceRecord, PageLimits, StreamAway
from tasks.streams.reader import Reader
from tasks.streams.tail import Tail, read_tail
from tests.support.events_layouts import ANY
from tests.support.interrupted import OTHER_DB, Interrupted
from tests.support.stream_entries import FIRST_MS, add_entries

ALWAYS = TimeWindow(-(2**62), 2**62)
ENTRIES = 45
SMALL_PAGES = replace(PAGE_LIMITS, first_entries=5, entries=7, small_entries=7)
MEASURED_PAGES = replace(SMALL_PAGES, large_entry=0)  # each page but the first is measured before it is requested
UNREAD_PAGES = replace(MEASURED_PAGES, max_entry=0)  # no entry is read
BOTH = pytest.mark.parametrize("limits", [SMALL_PAGES, MEASURED_PAGES], ids=["plain", "measured"])
Harm = Callable[[redis.Redis, str], None]
Read = dict[bytes, list[bytes]]  # fields by id


@pytest.fixture
def control(redis_client: redis.Redis, configure: Callable[..., Settings]) -> Iterator[redis.Redis]:
    """A client like the reader's, through which the tests do harm."""
    with connect(configure()) as client:
        yield client


@pytest.fixture
def reading(configure: Callable[..., Settings]) -> Iterator[redis.Redis]:
    """The reader's own client."""
    with connect(configure()) as client:
        yield client


def entries(client: redis.Redis, stream: str) -> Read:
    found: Any = client.execute_command("XRANGE", stream, "-", "+")
    return {entry: dict(fields) if isinstance(fields, dict) else fields for entry, fields in found}


def plain(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))


def rename(client: redis.Redis, stream: str) -> None:
    client.rename(stream, f"{stream}-away")


def rename_back(client: redis.Redis, stream: str) -> None:
    client.rename(f"{stream}-away", stream)


def swap(client: redis.Redis, stream: str) -> None:
    client.swapdb(0, OTHER_DB)


class Copies:
    """Dumps of a stream, to restore them: the whole one, and an older one."""

    def __init__(self, client: redis.Redis, stream: str) -> None:
        self.stream = stream
        self.client = client
        add_entries(client, stream, 0, 30)
        self.older: Any = client.dump(stream)
        add_entries(client, stream, 30, ENTRIES)
        self.whole: Any = client.dump(stream)

    def delete(self) -> None:
        self.client.delete(self.stream)

    def restore(self) -> None:
        self.client.restore(self.stream, 0, self.whole, replace=True)

    def restore_older(self) -> None:
        self.client.restore(self.stream, 0, self.older, replace=True)

    def empty_with_producers(self) -> None:
        self.delete()
        add_entries(self.client, self.stream, 2 * ENTRIES, 2 * ENTRIES + 3)

    def empty_with_producers_of_many(self) -> None:
        self.delete()
        add_entries(self.client, self.stream, 2 * ENTRIES, 4 * ENTRIES)

    def others_with_the_same_ids(self) -> None:
        self.delete()
        add_entries(self.client, self.stream, 0, ENTRIES, offset=1000)

    def others_in_between(self) -> None:
        self.delete()
        add_entries(self.client, self.stream, 0, ENTRIES - 1, offset=1000)

    def rename(self) -> None:
        rename(self.client, self.stream)

    def rename_back(self) -> None:
        rename_back(self.client, self.stream)

    def swap(self) -> None:
        self.client.swapdb(0, OTHER_DB)

    def trim(self) -> None:
        self.client.xtrim(self.stream, maxlen=20, approximate=False)

    def trim_all(self) -> None:
        self.client.xtrim(self.stream, maxlen=0, approximate=False)

    def delete_some(self) -> None:
        self.client.xdel(self.stream, *(f"{FIRST_MS + n}-0" for n in (*range(0, ENTRIES, 3), ENTRIES - 1)))

    def nothing(self) -> None:
        pass


AWAY = [
    ("rename", "rename_back"),
    ("delete", "restore"),
    ("swap", "swap"),
    ("restore_older", "restore"),
    ("empty_with_producers", "restore"),
    ("empty_with_producers_of_many", "restore"),
    ("others_with_the_same_ids", "restore"),
    ("others_in_between", "restore"),
]


def reader_of(
    client: redis.Redis, stream: str, tail: Tail, limits: PageLimits, absence: AbsenceRecord | None = None
) -> Reader:
    batches = BatchLimits(20, 1 << 20)
    return Reader(client, stream, [ALL], tail, batches, ANY, ALWAYS, absence=absence, page_limits=limits)


def read_all(reader: Reader, attempts: int) -> tuple[list[Batch], bool]:
    """All batches, and whether the stream was read to its end. Retries up to `attempts` times while it is away."""
    batches = []
    while True:
        try:
            batch = reader.read()
        except StreamAway:
            attempts -= 1
            if not attempts:
                return batches, False
            continue
        if batch is None:
            return batches, True
        batches.append(batch)


def returned_entries(batches: list[Batch]) -> dict[str, dict[bytes, bytes]]:
    return {batch.raw(i)[0]: plain(batch.raw(i)[1]) for batch in batches for i in range(batch.read)}


def commands_of(client: redis.Redis, stream: str, limits: PageLimits) -> int:
    """How many commands the reader sends if it is not disturbed."""
    tail = read_tail(client, stream)
    watch = Interrupted(client, -1, -2, lambda: None, lambda: None)
    reader = reader_of(client, stream, tail, limits)
    assert read_all(reader, 1)[1]
    return watch.sent


ALL = IdRange(0, parse_id(f"{FIRST_MS + ENTRIES}-0"))


@BOTH
@pytest.mark.parametrize(("harm", "undo"), AWAY)
def test_if_the_stream_is_away_between_any_two_commands_no_unread_range_is_returned(
    harm: str,
    undo: str,
    limits: PageLimits,
    control: redis.Redis,
    reading: redis.Redis,
    stream: str,
    configure: Callable[..., Settings],
) -> None:
    copies = Copies(control, stream)
    truth = {entry.decode(): plain(fields) for entry, fields in entries(control, stream).items()}
    tail = read_tail(control, stream)
    commands = commands_of(reading, stream, limits)
    for at, until in combinations(range(1, commands + 3), 2):
        with connect(configure()) as client:
            interruption = Interrupted(client, at, until, getattr(copies, harm), getattr(copies, undo))
            reader = reader_of(client, stream, tail, limits)
            batches, whole = read_all(reader, attempts=100)
            interruption.finish()
        covered = {entry: truth[entry] for entry in truth if any(within(entry, batch.ids) for batch in batches)}
        assert returned_entries(batches) == covered, f"harm before command {at}, undone before {until}"
        assert whole
        assert covered == truth


@BOTH
@pytest.mark.parametrize("harm", [harm for harm, _ in AWAY])
def test_once_the_stream_is_away_for_good_nothing_more_is_returned(
    harm: str,
    limits: PageLimits,
    control: redis.Redis,
    reading: redis.Redis,
    stream: str,
    configure: Callable[..., Settings],
) -> None:
    copies = Copies(control, stream)
    truth = {entry.decode(): plain(fields) for entry, fields in entries(control, stream).items()}
    tail = read_tail(control, stream)
    commands = commands_of(reading, stream, limits)
    for at in range(1, commands + 1):
        with connect(configure()) as client:
            interruption = Interrupted(client, at, 1_000_000, getattr(copies, harm), copies.nothing)
            absence = AbsenceRecord()
            reader = reader_of(client, stream, tail, limits, absence)
            batches, whole = read_all(reader, attempts=3)
            interruption.finish()
        assert not whole, f"harm before command {at}"
        assert absence.any
        covered = {entry: truth[entry] for entry in truth if any(within(entry, batch.ids) for batch in batches)}
        assert returned_entries(batches) == covered
        if harm == "rename":
            copies.rename_back()
        elif harm == "swap":
            copies.swap()
        copies.restore()


@pytest.mark.parametrize(("harm", "undo"), AWAY)
def test_an_entry_that_is_not_read_is_counted_with_proof(
    harm: str, undo: str, control: redis.Redis, stream: str, configure: Callable[..., Settings]
) -> None:
    """Each id is returned once, although its fields never are, whenever the stream is away."""
    copies = Copies(control, stream)
    copies.client.xtrim(stream, maxlen=6, approximate=False)
    copies.whole = control.dump(stream)
    truth = sorted(entry.decode() for entry in entries(control, stream))
    tail = read_tail(control, stream)
    commands = commands_of(control, stream, UNREAD_PAGES)
    for at, until in combinations(range(1, commands + 3), 2):
        with connect(configure()) as client:
            interruption = Interrupted(client, at, until, getattr(copies, harm), getattr(copies, undo))
            reader = reader_of(client, stream, tail, UNREAD_PAGES)
            batches, whole = read_all(reader, attempts=100)
            interruption.finish()
        assert whole
        assert returned_entries(batches) == {entry: {} for entry in truth}


@BOTH
@pytest.mark.parametrize("harm", ["trim", "trim_all", "delete_some"])
def test_entries_removed_during_a_read_do_not_stop_it(
    harm: str,
    limits: PageLimits,
    control: redis.Redis,
    reading: redis.Redis,
    stream: str,
    configure: Callable[..., Settings],
) -> None:
    copies = Copies(control, stream)
    truth = {entry.decode(): plain(fields) for entry, fields in entries(control, stream).items()}
    tail = read_tail(control, stream)
    commands = commands_of(reading, stream, limits)
    for at in range(1, commands + 1):
        with connect(configure()) as client:
            interruption = Interrupted(client, at, 1_000_000, getattr(copies, harm), copies.nothing)
            reader = reader_of(client, stream, tail, limits)
            batches, whole = read_all(reader, attempts=1)
            interruption.finish()
        assert whole, f"harm before command {at}"
        remaining = {entry.decode() for entry in entries(control, stream)}
        found = returned_entries(batches)
        assert remaining <= found.keys()
        assert all(truth[entry] == fields for entry, fields in found.items())
        assert [batch.ids.start for batch in batches[1:]] == [batch.ids.stop for batch in batches[:-1]]
        copies.restore()


def test_a_range_costs_one_extra_round_trip_to_prove_its_last_page(
    control: redis.Redis, reading: redis.Redis, stream: str
) -> None:
    add_entries(control, stream, 0, ENTRIES)
    # 5 + 5 * 7 entries, then a batch of 20 that is cut to its size: by hand.
    pages = [5, 7, 7, 1, 7, 7, 6, 5]
    assert sum(pages) == ENTRIES
    assert commands_of(reading, stream, SMALL_PAGES) == len(pages) + 1  # the last page once more, with proof


def within(entry: str, ids: IdRange) -> bool:
    return ids.start <= parse_id(entry) < ids.stop
